package io.github.conceptseg;

import io.github.conceptseg.client.ConceptSegClient;
import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.client.ConceptSegException.Kind;
import io.github.conceptseg.qupath.Changes;
import io.github.conceptseg.qupath.DisplayName;
import io.github.conceptseg.qupath.ProjectLabels;
import io.github.conceptseg.qupath.Results;
import io.github.conceptseg.server.ServerLifecycle;
import io.github.conceptseg.v1.DictionaryInfo;
import io.github.conceptseg.v1.EncoderInfo;
import io.github.conceptseg.v1.GetServerInfoResponse;
import java.awt.image.BufferedImage;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import qupath.lib.images.ImageData;
import qupath.lib.images.servers.PixelCalibration;
import qupath.lib.objects.PathObject;

/** What scripts use. Nothing here opens a dialog; failures are {@link ConceptSegException}. */
public final class ConceptSeg {
    private ConceptSeg() {
    }

    /** A job that segments regions of an image. */
    public static SegmentJob segment(ImageData<BufferedImage> imageData) {
        return new SegmentJob(imageData);
    }

    /** A job that learns dictionaries from an image. */
    public static LearnJob learn(ImageData<BufferedImage> imageData) {
        return new LearnJob(imageData);
    }

    /** A job that names the concepts of an image's results. */
    public static NamingJob name(ImageData<BufferedImage> imageData) {
        return new NamingJob(imageData);
    }

    /** What people say about an image's results, annotation by annotation. */
    public static Review review(ImageData<BufferedImage> imageData) {
        return new Review(imageData);
    }

    /** All objects that ConceptSeg made in an image. */
    public static List<PathObject> results(ImageData<BufferedImage> imageData) {
        return Results.of(require(imageData));
    }

    /** Those of the given parents; of the root object those directly in the image. */
    public static List<PathObject> results(ImageData<BufferedImage> imageData, Collection<PathObject> parents) {
        require(imageData);
        return parents.stream().flatMap(parent -> Results.in(parent).stream()).distinct().toList();
    }

    /** Whether ConceptSeg made it. */
    public static boolean isResult(PathObject object) {
        return Results.isResult(object);
    }

    /** Concepts that a result counts as: the one a person gave it, else those found; none if it is no result. */
    public static List<Integer> concepts(PathObject object) {
        return Results.concepts(object);
    }

    /** Dictionary of a result; null if it is none. */
    public static String dictionary(PathObject object) {
        return object.getMetadata().get(Results.DICTIONARY);
    }

    /** Run that made a result; null if it is none. */
    public static String run(PathObject object) {
        return object.getMetadata().get(Results.RUN);
    }

    /** Remove all results of an image in one undo step; what users drew inside them stays. */
    public static int removeResults(ImageData<BufferedImage> imageData) {
        return remove(imageData, results(imageData));
    }

    /** Remove the results of the given parents in one undo step. */
    public static int removeResults(ImageData<BufferedImage> imageData, Collection<PathObject> parents) {
        return remove(imageData, results(imageData, parents));
    }

    private static int remove(ImageData<BufferedImage> imageData, List<PathObject> results) {
        Changes changes = new Changes();
        changes.remove(results);
        changes.apply(imageData);
        return results.size();
    }

    /** Area, share and number of annotations per parent and class, the largest area first. */
    public static List<SummaryRow> summary(ImageData<BufferedImage> imageData) {
        PixelCalibration calibration = require(imageData).getServer().getPixelCalibration();
        boolean calibrated = calibration.hasPixelSizeMicrons();
        double scale = calibrated ? calibration.getPixelWidthMicrons() * calibration.getPixelHeightMicrons() : 1;
        Map<PathObject, Map<String, List<PathObject>>> groups = results(imageData).stream().collect(
            Collectors.groupingBy(PathObject::getParent, LinkedHashMap::new,
                Collectors.groupingBy(result -> String.valueOf(result.getPathClass()), TreeMap::new, Collectors.toList())));
        List<SummaryRow> rows = new ArrayList<>();
        groups.forEach((parent, classes) -> {
            double total = classes.values().stream().mapToDouble(ConceptSeg::area).sum();
            List<SummaryRow> ofParent = new ArrayList<>();
            classes.forEach((name, members) -> {
                String concepts = members.stream().flatMap(member -> Results.concepts(member).stream())
                    .collect(Collectors.toCollection(TreeSet::new)).stream()
                    .map(String::valueOf).collect(Collectors.joining(","));
                double area = area(members);
                ofParent.add(new SummaryRow(label(parent), parent, name, concepts, members.size(), area * scale,
                    calibrated, 100 * area / total));
            });
            ofParent.sort((a, b) -> Double.compare(b.getAreaUm2(), a.getAreaUm2()));
            rows.addAll(ofParent);
        });
        return rows;
    }

    /** The encoders of the server. */
    public static List<EncoderInfo> encoders() {
        return client().encoders();
    }

    /** The dictionaries of an encoder; of all for an empty name. */
    public static List<DictionaryInfo> dictionaries(String encoder) {
        return client().dictionaries(encoder);
    }

    /** The classes that people chose for the concepts of a dictionary in the open project, by concept. */
    public static Map<Integer, String> remembered(ImageData<BufferedImage> imageData, String dictionary) {
        require(imageData);
        Map<Integer, String> names = new TreeMap<>();
        ProjectLabels.ofOpenProject().of(dictionary).forEach((concept, label) -> {
            if (label.className() != null) {
                names.put(concept, label.className());
            }
        });
        return names;
    }

    /** Whether everything is in place; starts the server if need be, and never throws. */
    public static ServerCheck checkServer() {
        List<String> lines = new ArrayList<>();
        lines.add("Extension " + version() + ", Java " + Runtime.version());
        try {
            long started = System.nanoTime();
            ConceptSegClient client = client();
            long answered = System.nanoTime();
            GetServerInfoResponse info = client.info();
            double milliseconds = (System.nanoTime() - answered) / 1e6;
            lines.add(String.format(Locale.ROOT, "Server %s at %s, found or started in %.1f s, answers in %.1f ms",
                info.getVersion(), client.address(), (answered - started) / 1e9, milliseconds));
            lines.add("Device " + info.getDevice() + " (" + info.getDeviceName() + ")");
            for (EncoderInfo encoder : client.encoders()) {
                lines.add(String.format(Locale.ROOT, "Encoder %s: %.3g µm/px, %s%s", encoder.getIdentifier(),
                    encoder.getPixelSizeUm(), encoder.getNote(), encoder.getGated() ? " (weights must be applied for)" : ""));
            }
            List<DictionaryInfo> dictionaries = client.dictionaries("");
            lines.add("Dictionaries: " + dictionaries.stream().map(DictionaryInfo::getName)
                .collect(Collectors.joining(", ")));
            lines.add("Everything is in place.");
            return new ServerCheck(true, lines);
        } catch (ConceptSegException error) {
            lines.add(error.getMessage());
        } catch (RuntimeException | LinkageError error) {
            lines.add("A fault of the extension, please report it: " + error);
        }
        return new ServerCheck(false, lines);
    }

    /** The end of the log of the server that this QuPath started. */
    public static List<String> serverLog(int lines) {
        return ServerLifecycle.log(lines);
    }

    /** Version of the extension. */
    public static String version() {
        String version = ConceptSeg.class.getPackage().getImplementationVersion();
        return version == null ? "(development)" : version;
    }

    static ImageData<BufferedImage> require(ImageData<BufferedImage> imageData) {
        if (imageData == null) {
            throw new ConceptSegException(Kind.BAD_REQUEST, "No image is open. Open one in QuPath first.");
        }
        return imageData;
    }

    static int rgb(int red, int green, int blue) {
        if (Math.min(red, Math.min(green, blue)) < 0 || Math.max(red, Math.max(green, blue)) > 255) {
            throw new ConceptSegException(Kind.BAD_REQUEST, "A colour has red, green and blue from 0 to 255; got " + red
                + ", " + green + ", " + blue + ".");
        }
        return red << 16 | green << 8 | blue;
    }

    static String label(PathObject parent) {
        return DisplayName.of(parent);
    }

    private static double area(List<PathObject> objects) {
        return objects.stream().mapToDouble(object -> object.getROI().getArea()).sum();
    }

    private static ConceptSegClient client() {
        return ServerLifecycle.client(text -> { }, () -> false);
    }
}
