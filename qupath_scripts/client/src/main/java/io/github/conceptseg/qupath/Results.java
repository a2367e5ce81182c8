package io.github.conceptseg.qupath;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;
import qupath.lib.regions.ImagePlane;

/** Which objects of an image ConceptSeg made, and what they say about themselves. */
public final class Results {
    /** Metadata: the run that made the object. */
    public static final String RUN = "conceptseg.run";
    /** Metadata: the dictionary of the run. */
    public static final String DICTIONARY = "conceptseg.dictionary";
    /** Metadata: index of the concept; several, separated by commas, after merging. */
    public static final String CONCEPT = "conceptseg.concept";
    /** Metadata: index of the concept that a person said it is instead; {@link #CONCEPT} stays what was found. */
    public static final String REASSIGNED = "conceptseg.reassigned";

    /** Measurement: share of the concept in what was found there, 0 to 1. */
    private static final String PURITY = "Concept purity";

    private Results() {
    }

    /** Whether ConceptSeg made it. */
    public static boolean isResult(PathObject object) {
        return object.isAnnotation() && object.getMetadata().containsKey(RUN);
    }

    /** Concepts that a result counts as: the one that a person gave it, else those found, several after merging. */
    public static List<Integer> concepts(PathObject result) {
        return numbers(result.getMetadata().getOrDefault(isReassigned(result) ? REASSIGNED : CONCEPT, ""));
    }

    /** Concepts that were found, whatever people said since. */
    public static List<Integer> foundConcepts(PathObject result) {
        return numbers(result.getMetadata().getOrDefault(CONCEPT, ""));
    }

    /** Whether a person gave it another concept. */
    public static boolean isReassigned(PathObject result) {
        return result.getMetadata().getOrDefault(REASSIGNED, "").matches("\\d{1,9}");
    }

    /** How sure the segmentation was, 0 to 1; NaN if it did not say. */
    public static double purity(PathObject result) {
        return result.getMeasurementList().get(PURITY);
    }

    /** Dictionary of a result. */
    public static String dictionary(PathObject result) {
        return result.getMetadata().getOrDefault(DICTIONARY, "");
    }

    /** All of an image. */
    public static List<PathObject> of(ImageData<?> imageData) {
        List<PathObject> found = new ArrayList<>();
        collect(imageData.getHierarchy().getRootObject(), found, true);
        return found;
    }

    /** Those of a parent: its own children, as a run leaves them. */
    public static List<PathObject> in(PathObject parent) {
        List<PathObject> found = new ArrayList<>();
        collect(parent, found, false);
        return found;
    }

    /** Those of a parent on one plane: a whole image may have several. */
    public static List<PathObject> in(PathObject parent, ImagePlane plane) {
        return in(parent).stream().filter(result -> result.getROI().getImagePlane().equals(plane)).toList();
    }

    /** Take results out of the hierarchy; what users drew inside them moves up. No event is fired. */
    static void detach(Collection<PathObject> results) {
        Map<PathObject, List<PathObject>> byParent = new LinkedHashMap<>();
        for (PathObject result : results) {
            if (result.getParent() != null) {
                byParent.computeIfAbsent(result.getParent(), parent -> new ArrayList<>()).add(result);
            }
        }
        byParent.forEach((parent, children) -> {
            List<PathObject> kept = new ArrayList<>();
            for (PathObject child : children) {
                List<PathObject> inside = new ArrayList<>(child.getChildObjects());
                child.removeChildObjects(inside);
                kept.addAll(inside);
            }
            parent.removeChildObjects(children);
            parent.addChildObjects(kept);
        });
    }

    private static List<Integer> numbers(String text) {
        return text.isEmpty() ? List.of() : Arrays.stream(text.split(",")).map(Integer::valueOf).toList();
    }

    private static void collect(PathObject parent, List<PathObject> found, boolean deep) {
        for (PathObject child : parent.getChildObjectsAsArray()) {
            if (isResult(child)) {
                found.add(child);
            }
            if (deep) {
                collect(child, found, true);
            }
        }
    }
}
