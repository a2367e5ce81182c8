package io.github.conceptseg.qupath;

import io.github.conceptseg.client.ConceptSegException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.TMACoreObject;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;

/** Which objects a job works on. */
public enum Parents {
    /** The selected annotations and TMA cores. */
    SELECTED("selected()"),
    /** All area annotations that are not results. */
    ANNOTATIONS("annotations()"),
    /** All TMA cores that are there. */
    TMA_CORES("tmaCores()"),
    /** The whole image: the root object. */
    WHOLE_IMAGE("wholeImage()");

    private final String script;

    Parents(String script) {
        this.script = script;
    }

    /** How a script says it. */
    public String script() {
        return script;
    }

    /** The objects, at least one. */
    public List<PathObject> find(ImageData<?> imageData) {
        PathObjectHierarchy hierarchy = imageData.getHierarchy();
        List<PathObject> found = new ArrayList<>();
        switch (this) {
            case SELECTED -> {
                addAreas(hierarchy.getSelectionModel().getSelectedObjects(), found, true);
                // "Select all annotations" selects results, too; they are meant only where nothing else is selected.
                if (!found.stream().allMatch(Results::isResult)) {
                    found.removeIf(Results::isResult);
                }
            }
            case ANNOTATIONS -> addAreas(hierarchy.getAnnotationObjects(), found, false);
            case TMA_CORES -> {
                if (hierarchy.getTMAGrid() != null) {
                    addAreas(new ArrayList<>(hierarchy.getTMAGrid().getTMACoreList()), found, false);
                }
            }
            default -> found.add(hierarchy.getRootObject());
        }
        if (found.isEmpty()) {
            throw new ConceptSegException(ConceptSegException.Kind.BAD_REQUEST, switch (this) {
                case SELECTED -> "Nothing to work on: select one or more annotations (areas) or TMA cores first, or use "
                    + "'Segment whole image'.";
                case ANNOTATIONS -> "Nothing to work on: this image has no area annotations. Draw one, or use "
                    + "'Segment whole image'.";
                default -> "Nothing to work on: this image has no TMA cores. Run QuPath's TMA dearrayer first.";
            });
        }
        return found;
    }

    private static void addAreas(Collection<? extends PathObject> objects, List<PathObject> found, boolean results) {
        for (PathObject object : objects) {
            boolean missing = object instanceof TMACoreObject core && core.isMissing();
            boolean right = object.isAnnotation() || object.isTMACore();
            if (right && !missing && object.getROI() != null && object.getROI().isArea()
                    && (results || !Results.isResult(object))) {
                found.add(object);
            }
        }
    }
}
