package io.github.conceptseg.qupath;

import io.github.conceptseg.client.ConceptSegException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import qupath.fx.dialogs.Dialogs;

/** What a user starts in QuPath's window: it runs beside the window, which stays alive, and its failure is shown. */
public final class Background {
    private static final Logger LOG = LoggerFactory.getLogger("ConceptSeg");

    private Background() {
    }

    /** What is to be done. */
    @FunctionalInterface
    public interface Work {
        /** Do it. */
        void run() throws Exception;
    }

    /** Do it in a thread of its own. */
    public static void start(String title, Work work) {
        Thread thread = new Thread(() -> run(title, work), "ConceptSeg: " + title);
        thread.setDaemon(true);
        // Groovy resolves the imports of a script through its thread's class loader.
        thread.setContextClassLoader(Background.class.getClassLoader());
        thread.start();
    }

    /** Do it now. */
    public static void run(String title, Work work) {
        try {
            work.run();
        } catch (Exception | LinkageError error) { // whatever it is, the user must see it
            ConceptSegException known = known(error);
            if (known == null) {
                LOG.error("{} failed", title, error);
                Dialogs.showErrorNotification(ConceptSegExtension.NAME, title + " failed: " + error.getMessage()
                    + "\nView > Show log has the details.");
            } else if (known.isCancelled()) {
                LOG.info(known.getMessage());
                Dialogs.showInfoNotification(ConceptSegExtension.NAME, known.getMessage());
            } else {
                LOG.error(known.getMessage());
                LOG.debug("{} failed", title, known);
                Dialogs.showErrorNotification(ConceptSegExtension.NAME, known.getMessage());
            }
        }
    }

    private static ConceptSegException known(Throwable error) {
        Throwable cause = error;
        while (cause != null && !(cause instanceof ConceptSegException)) {
            cause = cause.getCause() == cause ? null : cause.getCause();
        }
        return (ConceptSegException) cause;
    }
}
