package qupath.lib.plugins;

import qupath.lib.regions.ImageRegion;

public interface SimpleProgressMonitor {
    void startMonitoring(String message, int maxProgress, boolean mayCancel);

    void updateProgress(int increment, String message, ImageRegion region);

    void pluginCompleted(String message);

    boolean cancelled();
}
