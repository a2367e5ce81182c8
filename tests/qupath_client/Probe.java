import io.github.conceptseg.client.ConceptSegClient;
import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.client.SegmentOutcome;
import io.github.conceptseg.client.ServerAddress;
import io.github.conceptseg.server.ServerLifecycle;
import io.github.conceptseg.shaded.com.google.protobuf.ByteString;
import io.github.conceptseg.v1.FitConceptsHeader;
import io.github.conceptseg.v1.FitConceptsRequest;
import io.github.conceptseg.v1.OutputRect;
import io.github.conceptseg.v1.PixelEncoding;
import io.github.conceptseg.v1.PixelTile;
import io.github.conceptseg.v1.PixelsHeader;
import io.github.conceptseg.v1.PlanRegionRequest;
import io.github.conceptseg.v1.PlanRegionResponse;
import io.github.conceptseg.v1.PlannedTile;
import io.github.conceptseg.v1.PolygonBatch;
import io.github.conceptseg.v1.Region;
import io.github.conceptseg.v1.SegmentOptions;
import io.github.conceptseg.v1.SegmentPixelsHeader;
import io.github.conceptseg.v1.SegmentRegionRequest;
import io.github.conceptseg.v1.SegmentSettings;
import java.awt.image.BufferedImage;
import java.io.File;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.BooleanSupplier;
import javax.imageio.ImageIO;

/**
 * Calls of the jar's client, one per run, for the tests: java -cp JAR Probe.java COMMAND ENDPOINT TOKEN ARGUMENTS.
 * Prints "KEY value" lines, and "ERROR KIND NAME message" with exit code 3 for an error that the client tells.
 */
public final class Probe {
    /** Stages that the server told so far, by its own thread. */
    private static final List<String> stages = new CopyOnWriteArrayList<>();
    private static String[] arguments;

    public static void main(String[] args) throws Exception {
        arguments = args;
        try {
            if (args[0].equals("lifecycle")) {
                lifecycle();
                return;
            }
            try (ConceptSegClient client = ConceptSegClient.connect(ServerAddress.parse(args[1], args[2], ""))) {
                switch (args[0]) {
                    case "list" -> list(client);
                    case "segment" -> segment(client, () -> false);
                    case "cancel" -> cancel(client);
                    case "file" -> file(client);
                    case "fit" -> fit(client);
                    default -> throw new IllegalArgumentException(args[0]);
                }
            }
        } catch (ConceptSegException error) {
            System.out.println("ERROR " + error.getKind() + " " + error.getError() + " " + error.getMessage());
            System.out.flush();
            System.exit(3);
        }
    }

    private static void list(ConceptSegClient client) {
        var info = client.info();
        client.requireCompatible(info);
        System.out.println("VERSION " + info.getVersion());
        client.encoders().forEach(encoder -> System.out.println("ENCODER " + encoder.getIdentifier()));
        client.dictionaries("").forEach(item -> System.out.println("DICTIONARY " + item.getName()));
    }

    /** segment ENDPOINT TOKEN PNG x y width height pixel_size_um [ENCODER [K]] */
    private static void segment(ConceptSegClient client, BooleanSupplier cancelled) throws Exception {
        BufferedImage image = ImageIO.read(new File(arguments[3]));
        SegmentOptions.Builder options = SegmentOptions.newBuilder().setRunId("probe");
        options.setEncoder(arguments.length > 9 ? arguments[9] : "default");
        if (arguments.length > 10) {
            options.getDictionaryBuilder().setK(Integer.parseInt(arguments[10]));
        }
        PlanRegionResponse plan = plan(client, image, options.build());
        SegmentPixelsHeader header = SegmentPixelsHeader.newBuilder().setOptions(options).setPixels(pixels(plan)).build();
        SegmentOutcome outcome = client.segmentPixels(header, tiles(image, plan), progress -> {
            if (!stages.contains(progress.getStage())) {
                stages.add(progress.getStage());
                System.out.println("STAGE " + progress.getStage());
                System.out.flush();
            }
        }, cancelled);
        System.out.println("RUN " + outcome.summary().getRunId());
        System.out.println("POLYGONS " + outcome.summary().getPolygonCount());
        for (PolygonBatch batch : outcome.polygons()) {
            batch.getPolygonsList().forEach(polygon -> System.out.println("POLYGON " + polygon.getConcept() + " "
                + java.util.HexFormat.of().formatHex(polygon.getWkb().toByteArray())));
        }
    }

    /** The arguments of segment; gives up as soon as the server is at work, however fast it is. */
    private static void cancel(ConceptSegClient client) throws Exception {
        long[] asked = {0};
        try {
            segment(client, () -> {
                if (stages.isEmpty()) {
                    return false;
                }
                asked[0] = asked[0] == 0 ? System.nanoTime() : asked[0];
                return true;
            });
        } finally {
            System.out.println("TOLD_AFTER_MS " + (System.nanoTime() - asked[0]) / 1_000_000);
        }
    }

    /** file ENDPOINT TOKEN PATH x y width height */
    private static void file(ConceptSegClient client) {
        SegmentOutcome outcome = client.segmentRegion(
            SegmentRegionRequest.newBuilder().setPath(arguments[3]).setRegion(region()).build(), progress -> { },
            () -> false);
        System.out.println("POLYGONS " + outcome.summary().getPolygonCount());
    }

    /** fit ENDPOINT TOKEN PNG x y width height pixel_size_um NAME */
    private static void fit(ConceptSegClient client) throws Exception {
        BufferedImage image = ImageIO.read(new File(arguments[3]));
        SegmentOptions options = SegmentOptions.newBuilder().setEncoder("default")
            .setSettings(SegmentSettings.newBuilder().setMethod("learned")).build();
        PlanRegionResponse plan = plan(client, image, options);
        List<FitConceptsRequest> requests = new ArrayList<>();
        requests.add(FitConceptsRequest.newBuilder().setHeader(FitConceptsHeader.newBuilder().setEncoder("default")
            .addKs(2).addKs(4).setName(arguments[9]).setSave(true).setRegionCount(1)).build());
        requests.add(FitConceptsRequest.newBuilder().setPixels(pixels(plan)).build());
        tiles(image, plan).forEachRemaining(tile -> requests.add(FitConceptsRequest.newBuilder().setTile(tile).build()));
        client.fit(requests.iterator(), progress -> { }, () -> false)
            .forEach(fitted -> System.out.println("FITTED " + fitted.getInfo().getName() + " " + fitted.getSaved()));
    }

    /** lifecycle [stay]: find or start a server as QuPath does, then end or wait to be killed. */
    private static void lifecycle() throws Exception {
        ConceptSegClient client = ServerLifecycle.client(text -> System.out.println("STATUS " + text), () -> false);
        System.out.println("CLIENT " + client.address());
        System.out.println("VERSION " + client.info().getVersion());
        if (ServerLifecycle.client(text -> System.out.println("AGAIN " + text), () -> false) == client) {
            System.out.println("SAME");
            System.out.flush();
        }
        if (arguments.length > 1) {
            Thread.sleep(120_000);
        }
    }

    private static PlanRegionResponse plan(ConceptSegClient client, BufferedImage image, SegmentOptions options) {
        PlanRegionRequest.Builder request = PlanRegionRequest.newBuilder().setOptions(options).setRegion(region())
            .setImageWidth(image.getWidth()).setImageHeight(image.getHeight());
        double pixelSize = Double.parseDouble(arguments[8]);
        if (pixelSize > 0) {
            request.setImagePixelSizeUm(pixelSize);
        }
        return client.plan(request.build(), () -> false);
    }

    private static Region region() {
        return Region.newBuilder().setX(Integer.parseInt(arguments[4])).setY(Integer.parseInt(arguments[5]))
            .setWidth(Integer.parseInt(arguments[6])).setHeight(Integer.parseInt(arguments[7])).build();
    }

    private static PixelsHeader pixels(PlanRegionResponse plan) {
        return PixelsHeader.newBuilder().setImageName("probe").setGrid(plan.getGrid()).setWindow(plan.getWindow()).build();
    }

    /** The image's own pixels: the probe is given images whose downsample is 1. */
    private static Iterator<PixelTile> tiles(BufferedImage image, PlanRegionResponse plan) {
        int left = plan.getGrid().getRegion().getX();
        int top = plan.getGrid().getRegion().getY();
        return plan.getTilesList().stream().map(PlannedTile::getRect).map(rect -> PixelTile.newBuilder().setRect(rect)
            .setEncoding(PixelEncoding.PIXEL_ENCODING_RAW_RGB).setData(rgb(image, left, top, rect)).build()).iterator();
    }

    private static ByteString rgb(BufferedImage image, int left, int top, OutputRect rect) {
        byte[] data = new byte[3 * rect.getWidth() * rect.getHeight()];
        int to = 0;
        for (int y = 0; y < rect.getHeight(); y++) {
            for (int x = 0; x < rect.getWidth(); x++) {
                int pixel = image.getRGB(left + rect.getX() + x, top + rect.getY() + y);
                data[to++] = (byte) (pixel >> 16);
                data[to++] = (byte) (pixel >> 8);
                data[to++] = (byte) pixel;
            }
        }
        return ByteString.copyFrom(data);
    }
}
