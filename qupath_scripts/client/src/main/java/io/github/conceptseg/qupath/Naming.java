package io.github.conceptseg.qupath;

import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.client.ConceptSegException.Kind;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.locationtech.jts.geom.Geometry;
import qupath.lib.images.ImageData;
import qupath.lib.measurements.MeasurementList;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.PathObjects;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.roi.GeometryTools;

/** Changes the classes of results, and makes one object of touching ones. */
public final class Naming {
    private Naming() {
    }

    /** Fails unless QuPath takes the name as one class, unchanged. */
    public static void requireClassName(String name) {
        boolean control = name.chars().anyMatch(character -> Character.getType(character) == Character.CONTROL
            || Character.getType(character) == Character.LINE_SEPARATOR
            || Character.getType(character) == Character.PARAGRAPH_SEPARATOR);
        if (name.isBlank() || control || name.contains(":") || !name.equals(name.strip())) {
            throw new ConceptSegException(Kind.BAD_REQUEST, "'" + name + "' cannot be a class name: it must not be empty, "
                + "start or end with space, or contain ':' or line breaks.");
        }
    }

    /**
     * The only dictionary of an image's results.
     *
     * @param wanted one of them; null if there is only one
     */
    public static String dictionary(List<PathObject> results, String wanted) {
        TreeSet<String> found = new TreeSet<>();
        results.forEach(result -> found.add(result.getMetadata().getOrDefault(Results.DICTIONARY, "")));
        if (found.isEmpty()) {
            throw new ConceptSegException(Kind.BAD_REQUEST, "This image has no ConceptSeg results to name. Run 'Segment "
                + "selected annotations' first.");
        }
        if (wanted == null && found.size() > 1) {
            throw new ConceptSegException(Kind.BAD_REQUEST, "This image has results of several dictionaries ("
                + String.join(", ", found) + "). Say which one with .dictionary(..).");
        }
        if (wanted != null && !found.contains(wanted)) {
            throw new ConceptSegException(Kind.BAD_REQUEST, "This image has no results of the dictionary " + wanted
                + ", only of " + String.join(", ", found) + ".");
        }
        return wanted == null ? found.first() : wanted;
    }

    /** Concepts of a result, several after merging. */
    public static List<Integer> concepts(PathObject result) {
        String text = result.getMetadata().getOrDefault(Results.CONCEPT, "");
        return text.isEmpty() ? List.of() : Arrays.stream(text.split(",")).map(Integer::valueOf).toList();
    }

    /** Give results the classes of their concepts; one event, one undo step. */
    public static List<PathObject> rename(ImageData<?> imageData, Collection<PathObject> results,
            Map<Integer, PathClass> classes) {
        List<PathObject> changed = new ArrayList<>();
        return Changes.onOwner(imageData, () -> {
            for (PathObject result : results) {
                PathClass wanted = concepts(result).stream().map(classes::get).filter(found -> found != null).findFirst()
                    .orElse(null);
                if (wanted != null && wanted != result.getPathClass()) {
                    result.setPathClass(wanted);
                    changed.add(result);
                }
            }
            if (!changed.isEmpty()) {
                imageData.getHierarchy().fireObjectClassificationsChangedEvent(Naming.class, changed);
            }
            return changed;
        });
    }

    /** Make one object of those that touch and share parent and class; returns how many disappeared. */
    public static int dissolve(ImageData<?> imageData, Collection<PathObject> results) {
        record Group(PathObject parent, PathClass pathClass, String run) {
        }

        Map<Group, List<PathObject>> groups = results.stream().collect(Collectors.groupingBy(
            result -> new Group(result.getParent(), result.getPathClass(), result.getMetadata().get(Results.RUN)),
            LinkedHashMap::new, Collectors.toList()));
        double pixelArea = pixelAreaUm2(imageData);
        Changes changes = new Changes();
        groups.forEach((group, members) -> {
            List<Geometry> shapes = members.stream().map(member -> member.getROI().getGeometry()).toList();
            Geometry union = GeometryTools.union(shapes);
            if (union.getNumGeometries() < members.size()) {
                changes.remove(members);
                changes.add(group.parent(), merged(members, union, pixelArea));
            }
        });
        int before = changes.removed();
        int after = changes.added();
        if (before > 0) {
            changes.apply(imageData);
        }
        return before - after;
    }

    private static List<PathObject> merged(List<PathObject> members, Geometry union, double pixelArea) {
        PathObject model = members.get(0);
        String concepts = members.stream().flatMap(member -> concepts(member).stream()).distinct().sorted()
            .map(String::valueOf).collect(Collectors.joining(","));
        List<PathObject> objects = new ArrayList<>();
        for (int i = 0; i < union.getNumGeometries(); i++) {
            Geometry shape = union.getGeometryN(i);
            PathObject object = PathObjects.createAnnotationObject(
                GeometryTools.geometryToROI(shape, model.getROI().getImagePlane()), model.getPathClass());
            object.getMetadata().put(Results.RUN, model.getMetadata().get(Results.RUN));
            object.getMetadata().put(Results.DICTIONARY, model.getMetadata().get(Results.DICTIONARY));
            object.getMetadata().put(Results.CONCEPT, concepts);
            try (MeasurementList list = object.getMeasurementList()) {
                if (Double.isFinite(pixelArea)) { // what else was measured belongs to the parts
                    list.put("Area µm^2", shape.getArea() * pixelArea);
                    list.put("Perimeter µm", shape.getLength() * Math.sqrt(pixelArea));
                }
            }
            object.setLocked(true);
            objects.add(object);
        }
        return objects;
    }

    /** µm² of a full-resolution px; NaN if the image has no pixel size. */
    public static double pixelAreaUm2(ImageData<?> imageData) {
        var calibration = imageData.getServer().getPixelCalibration();
        return calibration.hasPixelSizeMicrons()
            ? calibration.getPixelWidthMicrons() * calibration.getPixelHeightMicrons() : Double.NaN;
    }
}
