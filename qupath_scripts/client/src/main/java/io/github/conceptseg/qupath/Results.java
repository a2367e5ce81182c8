package io.github.conceptseg.qupath;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;

/** Which objects of an image ConceptSeg made, and what they say about themselves. */
public final class Results {
    /** Metadata: the run that made the object. */
    public static final String RUN = "conceptseg.run";
    /** Metadata: the dictionary of the run. */
    public static final String DICTIONARY = "conceptseg.dictionary";
    /** Metadata: index of the concept; several, separated by commas, after merging. */
    public static final String CONCEPT = "conceptseg.concept";

    private Results() {
    }

    /** Whether ConceptSeg made it. */
    public static boolean isResult(PathObject object) {
        return object.isAnnotation() && object.getMetadata().containsKey(RUN);
    }

    /** Concepts of a result, several after merging. */
    public static List<Integer> concepts(PathObject result) {
        String text = result.getMetadata().getOrDefault(CONCEPT, "");
        return text.isEmpty() ? List.of() : Arrays.stream(text.split(",")).map(Integer::valueOf).toList();
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
