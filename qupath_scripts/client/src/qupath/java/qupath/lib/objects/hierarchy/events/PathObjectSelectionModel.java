package qupath.lib.objects.hierarchy.events;

import java.util.Collection;
import java.util.Set;
import qupath.lib.objects.PathObject;

public class PathObjectSelectionModel {
    public native Set<PathObject> getSelectedObjects();

    public native void setSelectedObjects(Collection<? extends PathObject> objects, PathObject mainObject);
}
