package io.github.conceptseg.qupath;

import io.github.conceptseg.client.ConceptSegClient;
import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.client.SegmentOutcome;
import io.github.conceptseg.v1.ImageOverview;
import io.github.conceptseg.v1.OutputRect;
import io.github.conceptseg.v1.PixelsHeader;
import io.github.conceptseg.v1.PlanRegionRequest;
import io.github.conceptseg.v1.PlanRegionResponse;
import io.github.conceptseg.v1.PlannedTile;
import io.github.conceptseg.v1.Progress;
import io.github.conceptseg.v1.Region;
import io.github.conceptseg.v1.SegmentOptions;
import io.github.conceptseg.v1.SegmentPixelsHeader;
import io.github.conceptseg.v1.SegmentRegionRequest;
import java.awt.image.BufferedImage;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.images.servers.PixelCalibration;
import qupath.lib.objects.PathObject;
import qupath.lib.regions.ImagePlane;

/** Segments the pixels of one parent at a time. */
public final class Segmenter {
    /** Class of annotations that hold nothing but tissue, whatever its colour. */
    private static final String TISSUE = "Tissue";

    private final ConceptSegClient client;
    private final ImageServer<BufferedImage> server;
    private final double pixelSizeUm;
    private final ProjectLabels labels;
    private final Map<List<Integer>, ImageOverview> overviews = new HashMap<>(); // of planes that were asked for

    /**
     * A segmenter for an image.
     *
     * @param pixelSizeUm µm per full-resolution px; NaN to take the image's own
     * @param labels the classes that people chose for concepts
     */
    public Segmenter(ConceptSegClient client, ImageServer<BufferedImage> server, double pixelSizeUm,
            ProjectLabels labels) {
        this.client = client;
        this.server = server;
        this.labels = labels;
        this.pixelSizeUm = requirePixelSize(server, pixelSizeUm);
    }

    /** Objects of a parent that are not in the hierarchy yet, and what the server said. */
    public record Segmented(SegmentOutcome outcome, List<PathObject> objects, ImagePlane plane) {
    }

    /** Fails with a sentence if the image is nothing that can be segmented. */
    public static double requirePixelSize(ImageServer<BufferedImage> server, double pixelSizeUm) {
        String name = server.getMetadata().getName();
        if (!server.isRGB()) {
            throw new ConceptSegException(ConceptSegException.Kind.BAD_REQUEST, name + " is not a colour (RGB) image. "
                + "ConceptSeg segments stained sections in bright field, such as H&E.");
        }
        if (Double.isFinite(pixelSizeUm)) {
            return pixelSizeUm;
        }
        PixelCalibration calibration = server.getPixelCalibration();
        if (!calibration.hasPixelSizeMicrons()) {
            throw new ConceptSegException(ConceptSegException.Kind.NO_PIXEL_SIZE, name + " has no pixel size, and "
                + "results depend on it. Set 'Pixel width' and 'Pixel height' in QuPath's Image tab (double-click; "
                + "about 0.25 µm for a 40x scan, 0.5 µm for 20x), or use .pixelSizeUm(..) in a script.");
        }
        return calibration.getAveragedPixelSizeMicrons();
    }

    /**
     * Segment a parent; the image's objects stay as they are.
     *
     * @param file of the image, which the server reads itself; null to send it the pixels
     */
    public Segmented segment(PathObject parent, ImageFile file, SegmentOptions wanted, Consumer<Progress> progress,
            BooleanSupplier cancelled) {
        ParentRegion part = ParentRegion.of(parent, server);
        SegmentOptions.Builder inside = wanted.toBuilder().setClipWkb(part.clip());
        if (TISSUE.equals(String.valueOf(parent.getPathClass()))) { // a person said that all of it is tissue
            inside.getSettingsBuilder().setWholeRegion(true);
        }
        SegmentOptions options = inside.build();
        SegmentOutcome outcome = file == null ? sendPixels(part, options, progress, cancelled)
            : client.segmentRegion(regionOfFile(file, part, options), progress, cancelled);
        var chosen = labels.of(outcome.summary().getDictionary());
        return new Segmented(outcome, ResultObjects.of(outcome, part.plane(), chosen), part.plane());
    }

    private SegmentOutcome sendPixels(ParentRegion part, SegmentOptions options, Consumer<Progress> progress,
            BooleanSupplier cancelled) {
        PlanRegionResponse plan = plan(part, options, cancelled);
        SegmentPixelsHeader header =
            SegmentPixelsHeader.newBuilder().setPixels(pixelsHeader(plan)).setOptions(options).build();
        try (TilesAhead tiles = tiles(plan)) {
            return client.segmentPixels(header, tiles, progress, cancelled);
        }
    }

    private SegmentRegionRequest regionOfFile(ImageFile file, ParentRegion part, SegmentOptions options) {
        SegmentRegionRequest.Builder request = SegmentRegionRequest.newBuilder()
            .setPath(file.path().toString())
            .setRegion(part.region())
            .setImagePixelSizeUm(pixelSizeUm)
            .setImageWidth(server.getWidth())
            .setImageHeight(server.getHeight())
            .setOptions(options);
        file.series().ifPresent(request::setSeries);
        return request.build();
    }

    PlanRegionResponse plan(ParentRegion part, SegmentOptions options, BooleanSupplier cancelled) {
        return client.plan(PlanRegionRequest.newBuilder()
            .setOptions(options.toBuilder().clearClipWkb())
            .setRegion(part.region())
            .setImageWidth(server.getWidth())
            .setImageHeight(server.getHeight())
            .setImagePixelSizeUm(pixelSizeUm)
            .build(), cancelled);
    }

    PixelsHeader pixelsHeader(PlanRegionResponse plan) {
        String name = server.getMetadata().getName();
        Region region = plan.getGrid().getRegion();
        ImageOverview overview = overviews.computeIfAbsent(List.of(region.getZ(), region.getT()),
            plane -> Overview.of(server, region.getZ(), region.getT()));
        return PixelsHeader.newBuilder()
            .setImageName(name.substring(0, Math.min(name.length(), 500)))
            .setGrid(plan.getGrid())
            .setWindow(plan.getWindow())
            .setOverview(overview)
            .build();
    }

    TilesAhead tiles(PlanRegionResponse plan) {
        List<OutputRect> rects = plan.getTilesList().stream().map(PlannedTile::getRect).toList();
        return new TilesAhead(new RegionPixels(server, plan.getGrid()), rects);
    }
}
