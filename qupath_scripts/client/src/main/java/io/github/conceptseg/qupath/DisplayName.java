package io.github.conceptseg.qupath;

import qupath.lib.objects.PathObject;
import qupath.lib.roi.interfaces.ROI;

/** What messages call an object. */
public final class DisplayName {
    private DisplayName() {
    }

    /** Its name if it has one, else what and where it is. */
    public static String of(PathObject object) {
        if (object.isRootObject()) {
            return "Image";
        }
        if (object.getName() != null && !object.getName().isBlank()) {
            return object.getName();
        }
        ROI roi = object.getROI();
        return object.getDisplayedName() + (roi == null ? "" : " at " + Math.round(roi.getBoundsX()) + ","
            + Math.round(roi.getBoundsY()));
    }
}
