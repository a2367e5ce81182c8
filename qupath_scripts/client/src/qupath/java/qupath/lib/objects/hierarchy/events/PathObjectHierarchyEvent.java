package qupath.lib.objects.hierarchy.events;

public class PathObjectHierarchyEvent {
    public native boolean isChanging();
}
