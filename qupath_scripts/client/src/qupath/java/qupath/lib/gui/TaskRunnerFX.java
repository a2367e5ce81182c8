package qupath.lib.gui;

import qupath.lib.plugins.SimpleProgressMonitor;

public class TaskRunnerFX {
    public TaskRunnerFX(QuPathGUI qupath, int numThreads) {
    }

    public native SimpleProgressMonitor makeProgressMonitor();
}
