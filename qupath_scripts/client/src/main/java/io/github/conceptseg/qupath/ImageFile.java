package io.github.conceptseg.qupath;

import io.github.conceptseg.client.ConceptSegException;
import java.net.URI;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.OptionalInt;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.images.servers.ImageServerBuilder.DefaultImageServerBuilder;

/**
 * The file behind an image, for a server that reads it itself.
 *
 * @param path the file
 * @param series number of the image inside the file; empty for the one that QuPath proposes
 */
public record ImageFile(Path path, OptionalInt series) {

    /** The one file that holds this image; fails with a sentence if there is none. */
    public static ImageFile of(ImageServer<?> server) {
        // A rotated, cropped or otherwise derived image names the file of its original, which has other pixels.
        if (server.getBuilder() instanceof DefaultImageServerBuilder<?> opened) {
            URI uri = opened.getURI();
            if ("file".equals(uri.getScheme()) && uri.getQuery() == null && uri.getFragment() == null) {
                return new ImageFile(Path.of(uri), series(opened.getArgs()));
            }
        }
        throw new ConceptSegException(ConceptSegException.Kind.BAD_REQUEST, server.getMetadata().getName()
            + " is not simply a file that the server could read: it is rotated, cropped or otherwise derived, or comes "
            + "from the network. Leave .readOnServer(true) out, and QuPath sends the pixels.");
    }

    private static OptionalInt series(String[] arguments) {
        int named = Arrays.asList(arguments).indexOf("--series");
        String number = named >= 0 && named + 1 < arguments.length ? arguments[named + 1].strip() : "";
        return number.matches("[0-9]{1,9}") ? OptionalInt.of(Integer.parseInt(number)) : OptionalInt.empty();
    }
}
