package qupath.lib.objects.hierarchy;

import java.util.Collection;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.hierarchy.events.PathObjectHierarchyListener;
import qupath.lib.objects.hierarchy.events.PathObjectSelectionModel;

public final class PathObjectHierarchy {
    public native PathObject getRootObject();

    public native PathObjectSelectionModel getSelectionModel();

    public native TMAGrid getTMAGrid();

    public native Collection<PathObject> getAnnotationObjects();

    public native int nObjects();

    public native void addListener(PathObjectHierarchyListener listener);

    public native void removeListener(PathObjectHierarchyListener listener);

    public native void fireObjectsChangedEvent(
        Object source, Collection<? extends PathObject> objects, boolean isChanging);

    public native void fireHierarchyChangedEvent(Object source, PathObject object);
}
