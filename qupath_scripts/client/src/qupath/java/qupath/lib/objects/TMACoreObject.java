package qupath.lib.objects;

import qupath.lib.objects.classes.PathClass;
import qupath.lib.roi.interfaces.ROI;

public class TMACoreObject extends PathObject {
    public native boolean isMissing();

    @Override
    public native ROI getROI();

    @Override
    public native PathClass getPathClass();
}
