package qupath.lib.gui.viewer;

import qupath.lib.objects.classes.PathClass;

public class OverlayOptions {
    public native void setPathClassHidden(PathClass pathClass, boolean hidden);
}
