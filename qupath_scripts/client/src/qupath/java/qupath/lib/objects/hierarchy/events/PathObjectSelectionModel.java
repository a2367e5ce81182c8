package qupath.lib.objects.hierarchy.events;

import java.util.Collection;
import java.util.Set;
import qupath.lib.objects.PathObject;

public class PathObjectSelectionModel {
    public native Set<PathObject> getSelectedObjects();

    public native void setSelectedObject(PathObject object);

    public native void setSelectedObjects(Collection<? extends PathObject> objects, PathObject mainObject);

    public native void addPathObjectSelectionListener(PathObjectSelectionListener listener);

    public native void removePathObjectSelectionListener(PathObjectSelectionListener listener);
}
