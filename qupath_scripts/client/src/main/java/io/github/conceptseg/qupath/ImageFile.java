package io.github.conceptseg.qupath;

import io.github.conceptseg.client.ConceptSegException;
import java.net.URI;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.images.servers.ImageServerBuilder.DefaultImageServerBuilder;

/** The file behind an image, for a server that reads it itself. */
public final class ImageFile {
    private static final List<String> FIRST_SERIES = List.of("", "-1", "0");

    private ImageFile() {
    }

    /** The one file whose first image this is; fails with a sentence if there is none. */
    public static Path of(ImageServer<?> server) {
        // A rotated, cropped or otherwise derived image names the file of its original, which has other pixels.
        if (server.getBuilder() instanceof DefaultImageServerBuilder<?> opened && isFirstSeries(opened.getArgs())) {
            URI uri = opened.getURI();
            if ("file".equals(uri.getScheme()) && uri.getQuery() == null && uri.getFragment() == null) {
                return Path.of(uri);
            }
        }
        throw new ConceptSegException(ConceptSegException.Kind.BAD_REQUEST, server.getMetadata().getName()
            + " is not simply a file that the server could read: it is rotated, cropped or otherwise derived, one of "
            + "several images in its file, or comes from the network. Leave .readOnServer(true) out, and QuPath sends "
            + "the pixels.");
    }

    private static boolean isFirstSeries(String[] arguments) {
        int named = Arrays.asList(arguments).indexOf("--series");
        return named < 0 || named + 1 < arguments.length && FIRST_SERIES.contains(arguments[named + 1].strip());
    }
}
