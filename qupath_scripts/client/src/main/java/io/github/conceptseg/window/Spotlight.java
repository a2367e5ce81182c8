package io.github.conceptseg.window;

import io.github.conceptseg.qupath.ClassList;
import javafx.scene.layout.Pane;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.viewer.OverlayOptions;
import qupath.lib.gui.viewer.QuPathViewer;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.roi.interfaces.ROI;

/** Brings an object to the middle of QuPath's viewer, drawn, selected, and of a size that can be judged. */
final class Spotlight {
    /** The longer side of what is shown is between these shares of the view. */
    private static final double LARGEST = 0.8;
    private static final double SMALLEST = 0.08;

    private final QuPathGUI qupath;

    Spotlight(QuPathGUI qupath) {
        this.qupath = qupath;
    }

    void show(PathObject object) {
        show(object.getPathClass(), true);
        qupath.getImageData().getHierarchy().getSelectionModel().setSelectedObject(object);
        QuPathViewer viewer = qupath.getViewer();
        ROI roi = object.getROI();
        Pane view = viewer.getView();
        if (view.getWidth() > 0 && view.getHeight() > 0) {
            // Full-resolution px per screen px at which it would fill the view.
            double filling = Math.max(roi.getBoundsWidth() / view.getWidth(), roi.getBoundsHeight() / view.getHeight());
            double now = viewer.getDownsampleFactor();
            double fitting = Math.max(filling / LARGEST, Math.min(now, filling / SMALLEST));
            if (fitting != now) {
                viewer.setDownsampleFactor(fitting);
            }
        }
        viewer.centerROI(roi);
    }

    /** Draw the objects of a class, null for those without one, or do not. */
    void show(PathClass pathClass, boolean shown) {
        if (isShown(pathClass) != shown) {
            ClassList.hide(options(), orNone(pathClass), !shown);
        }
    }

    boolean isShown(PathClass pathClass) {
        return !options().isPathClassHidden(orNone(pathClass));
    }

    private OverlayOptions options() {
        return qupath.getOverlayOptions();
    }

    private static PathClass orNone(PathClass pathClass) {
        return pathClass == null ? PathClass.getNullClass() : pathClass;
    }
}
