package qupath.lib.objects.hierarchy.events;

import java.util.EventListener;

public interface PathObjectHierarchyListener extends EventListener {
    void hierarchyChanged(PathObjectHierarchyEvent event);
}
