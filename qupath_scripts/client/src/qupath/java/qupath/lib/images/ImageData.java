package qupath.lib.images;

import qupath.lib.images.servers.ImageServer;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.plugins.workflow.Workflow;

public class ImageData<T> {
    public native ImageServer<T> getServer();

    public native PathObjectHierarchy getHierarchy();

    public native Workflow getHistoryWorkflow();
}
