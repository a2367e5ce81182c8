package io.github.conceptseg.qupath;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.TaskRunnerFX;
import qupath.lib.images.ImageData;
import qupath.lib.plugins.SimpleProgressMonitor;

/** Progress and cancel of one job: a dialog in QuPath's window, the log elsewhere. */
public abstract class JobMonitor implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger("ConceptSeg");
    private static final int STEPS = 1000;

    /** The monitor for a job on an image. */
    public static JobMonitor open(ImageData<?> imageData, String title) {
        QuPathGUI gui = Gui.showing(imageData);
        return gui == null || Gui.onFxThread() ? new InLog(title) : new InWindow(gui, title);
    }

    /** Say what is being done; {@code fraction} of the job is finished. */
    public abstract void progress(double fraction, String message);

    /** Whether the user wants it to stop. */
    public abstract boolean cancelled();

    @Override
    public abstract void close();

    private static final class InWindow extends JobMonitor {
        private final SimpleProgressMonitor monitor;
        private int done;

        InWindow(QuPathGUI gui, String title) {
            monitor = new TaskRunnerFX(gui, 1).makeProgressMonitor();
            monitor.startMonitoring(title, STEPS, true);
        }

        @Override
        public void progress(double fraction, String message) {
            int now = Math.max(done, (int) (STEPS * Math.min(fraction, 0.999)));
            monitor.updateProgress(now - done, message, null);
            done = now;
        }

        @Override
        public boolean cancelled() {
            return monitor.cancelled() || Thread.currentThread().isInterrupted();
        }

        @Override
        public void close() {
            monitor.pluginCompleted("");
        }
    }

    private static final class InLog extends JobMonitor {
        private static final double STEP = 0.1;

        private final String title;
        private double next;

        InLog(String title) {
            this.title = title;
        }

        @Override
        public void progress(double fraction, String message) {
            if (fraction >= next) {
                LOG.info("{}: {} % - {}", title, Math.round(100 * fraction), message);
                next = fraction + STEP;
            }
        }

        @Override
        public boolean cancelled() {
            return Thread.currentThread().isInterrupted();
        }

        @Override
        public void close() {
            // the report says what was done
        }
    }
}
