package qupath.lib.objects;

import java.util.Collection;
import java.util.Map;
import java.util.UUID;
import qupath.lib.measurements.MeasurementList;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.roi.interfaces.ROI;

public abstract class PathObject {
    public native UUID getID();

    public native PathObject getParent();

    public native Collection<PathObject> getChildObjects();

    public native PathObject[] getChildObjectsAsArray();

    public native void addChildObjects(Collection<? extends PathObject> children);

    public native void removeChildObjects(Collection<PathObject> children);

    public abstract ROI getROI();

    public abstract PathClass getPathClass();

    public native void setPathClass(PathClass pathClass);

    public native String getName();

    public native String getDisplayedName();

    public native Integer getColor();

    public native void setColor(Integer colour);

    public native boolean isLocked();

    public native void setLocked(boolean locked);

    public native boolean isAnnotation();

    public native boolean isTMACore();

    public native boolean isRootObject();

    public native MeasurementList getMeasurementList();

    public native Map<String, String> getMetadata();
}
