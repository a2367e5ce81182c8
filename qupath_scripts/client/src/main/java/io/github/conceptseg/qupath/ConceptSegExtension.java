package io.github.conceptseg.qupath;

import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.extensions.QuPathExtension;

/** What QuPath loads: the menu Extensions ▸ ConceptSeg. */
public final class ConceptSegExtension implements QuPathExtension {
    static final String NAME = "ConceptSeg";

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
                qupath.installCommand("Extensions>" + NAME + ">" + script.title(), () ->
                    Background.start(script.title(), () -> script.run(qupath)));
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
}
