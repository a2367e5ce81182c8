package qupath.lib.gui.viewer;

import javafx.beans.property.ReadOnlyLongProperty;
import qupath.lib.objects.classes.PathClass;

public class OverlayOptions {
    public native boolean isPathClassHidden(PathClass pathClass);

    public native void setPathClassHidden(PathClass pathClass, boolean hidden);

    public native ReadOnlyLongProperty lastChangeTimestamp();
}
