package qupath.lib.objects;

import qupath.lib.objects.classes.PathClass;
import qupath.lib.roi.interfaces.ROI;

public class PathObjects {
    public static native PathObject createAnnotationObject(ROI roi, PathClass pathClass);
}
