package io.github.conceptseg.qupath;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import javax.script.ScriptException;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.scripting.QPEx;
import qupath.lib.gui.scripting.languages.ScriptLanguageProvider;
import qupath.lib.scripting.ScriptParameters;
import qupath.lib.scripting.languages.ExecutableLanguage;

/**
 * One of the Groovy scripts in the jar, as a menu item.
 *
 * @param title of the menu item
 * @param file under {@code /scripts/}
 */
record BundledScript(String title, String file) {
    /** The menu, in its order. A script that this jar was built without is left out. */
    static final List<BundledScript> ALL = List.of(
        new BundledScript("Segment selected annotations", "Segment_selected_annotations.groovy"),
        new BundledScript("Segment whole image", "Segment_whole_image.groovy"),
        new BundledScript("Learn concepts from selection", "Learn_concepts_from_selection.groovy"),
        new BundledScript("Name and merge concepts", "Name_and_merge_concepts.groovy"),
        new BundledScript("Review concepts", "Review_concepts.groovy"),
        new BundledScript("Select by concept", "Select_by_concept.groovy"),
        new BundledScript("Show concept summary", "Show_concept_summary.groovy"),
        new BundledScript("Remove ConceptSeg results", "Remove_ConceptSeg_results.groovy"),
        new BundledScript("Check server", "Check_server.groovy"));

    boolean exists() {
        return BundledScript.class.getResource(path()) != null;
    }

    /** Run it with what the window shows; not on the JavaFX thread. */
    void run(QuPathGUI qupath) throws ScriptException, IOException {
        ScriptParameters parameters = ScriptParameters.builder()
            .setProject(qupath.getProject())
            .setImageData(qupath.getImageData())
            .setDefaultImports(QPEx.getCoreClasses())
            .setDefaultStaticImports(List.of(QPEx.class))
            .setScript(text())
            .setArgs(new String[0])
            .useLogWriters()
            .doUpdateHierarchy(false) // the job fires its own single event, which is one undo step
            .build();
        ((ExecutableLanguage) ScriptLanguageProvider.fromString("Groovy")).execute(parameters);
    }

    private String text() throws IOException {
        try (InputStream stream = BundledScript.class.getResourceAsStream(path())) {
            if (stream == null) {
                throw new IOException("The extension holds no " + path() + ".");
            }
            return new String(stream.readAllBytes(), StandardCharsets.UTF_8);
        }
    }

    private String path() {
        return "/scripts/" + file;
    }
}
