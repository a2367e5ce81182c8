package io.github.conceptseg.qupath;

import io.github.conceptseg.client.ConceptSegException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import qupath.fx.dialogs.Dialogs;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.extensions.QuPathExtension;

/** What QuPath loads: the menu Extensions ▸ ConceptSeg. */
public final class ConceptSegExtension implements QuPathExtension {
    private static final Logger LOG = LoggerFactory.getLogger("ConceptSeg");
    private static final String NAME = "ConceptSeg";

    private boolean installed;

    /** QuPath's service loader needs it. */
    public ConceptSegExtension() {
    }

    @Override
    public void installExtension(QuPathGUI qupath) {
        if (installed) {
            return;
        }
        installed = true;
        ServerPreferences.install(qupath);
        for (BundledScript script : BundledScript.ALL) {
            if (script.exists()) {
                qupath.installCommand("Extensions>" + NAME + ">" + script.title(), () -> start(qupath, script));
            }
        }
    }

    @Override
    public String getName() {
        return NAME;
    }

    @Override
    public String getDescription() {
        return "Unsupervised tissue concepts: select, click, and name what was found.";
    }

    /** Every item runs in a thread of its own, so that the window stays alive. */
    private static void start(QuPathGUI qupath, BundledScript script) {
        Thread thread = new Thread(() -> run(qupath, script), "ConceptSeg: " + script.title());
        thread.setDaemon(true);
        // Groovy resolves the imports of a script through its thread's class loader.
        thread.setContextClassLoader(ConceptSegExtension.class.getClassLoader());
        thread.start();
    }

    private static void run(QuPathGUI qupath, BundledScript script) {
        try {
            script.run(qupath);
        } catch (Exception | LinkageError error) { // whatever it is, the user must see it
            ConceptSegException known = known(error);
            if (known == null) {
                LOG.error("{} failed", script.title(), error);
                Dialogs.showErrorNotification(NAME, script.title() + " failed: " + error.getMessage()
                    + "\nView > Show log has the details.");
            } else if (known.isCancelled()) {
                LOG.info(known.getMessage());
                Dialogs.showInfoNotification(NAME, known.getMessage());
            } else {
                LOG.error(known.getMessage());
                LOG.debug("{} failed", script.title(), known);
                Dialogs.showErrorNotification(NAME, known.getMessage());
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
