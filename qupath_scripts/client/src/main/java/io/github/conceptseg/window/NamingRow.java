package io.github.conceptseg.window;

import io.github.conceptseg.ConceptSeg;
import io.github.conceptseg.NamingJob;
import io.github.conceptseg.NamingReport;
import io.github.conceptseg.ReviewedConcept;
import io.github.conceptseg.qupath.Background;
import java.awt.image.BufferedImage;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.UnaryOperator;
import javafx.application.Platform;
import javafx.geometry.Pos;
import javafx.scene.Node;
import javafx.scene.control.Button;
import javafx.scene.control.ColorPicker;
import javafx.scene.control.ComboBox;
import javafx.scene.control.Label;
import javafx.scene.control.Tooltip;
import javafx.scene.layout.HBox;
import javafx.scene.layout.Priority;
import javafx.scene.paint.Color;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.images.ImageData;
import qupath.lib.objects.classes.PathClass;

/** Names, merges, colours and ignores the chosen concept, in the image and for the project. */
final class NamingRow {
    private final QuPathGUI qupath;
    private final Consumer<String> say;
    private final ComboBox<String> name = new ComboBox<>();
    private final ColorPicker colour = new ColorPicker();
    private final HBox row;
    private ReviewedConcept concept;
    private Color colourOfClass;
    private Color colourOfName;

    /**
     * A row for no concept yet.
     *
     * @param qupath whose image it is
     * @param say told what was done
     */
    NamingRow(QuPathGUI qupath, Consumer<String> say) {
        this.qupath = qupath;
        this.say = say;
        name.setEditable(true);
        name.setMaxWidth(Double.MAX_VALUE);
        name.setTooltip(new Tooltip("Name of the concept in the whole project; the name of another one merges the two"));
        // A known class brings its colour, which is no choice of the user's.
        name.valueProperty().addListener((property, before, now) -> {
            List<String> known = name.getItems();
            if (known.contains(now)) {
                offer(ConceptTable.colour(PathClass.fromString(now, null)));
            }
        });
        colour.setTooltip(new Tooltip("Colour of the class"));
        Button apply = new Button("Apply");
        apply.setTooltip(new Tooltip("Give the concept this name and colour, here and in later segmentations"));
        apply.setOnAction(event -> apply());
        Button ignore = new Button("Ignore");
        ignore.setTooltip(new Tooltip("Background or artefact: class Ignore*, which QuPath's own commands leave out"));
        ignore.setOnAction(event -> ignore());
        HBox.setHgrow(name, Priority.ALWAYS);
        row = new HBox(6, new Label("Name"), name, colour, apply, ignore);
        row.setAlignment(Pos.CENTER_LEFT);
        choose(null);
    }

    Node node() {
        return row;
    }

    /** The concept to name, null for none; what is typed stays if it is the same as before. */
    void choose(ReviewedConcept chosen) {
        Color now = chosen == null ? null : ConceptTable.colour(chosen.getPathClass());
        boolean same = concept != null && chosen != null && concept.getDictionary().equals(chosen.getDictionary())
            && concept.getPathClass() == chosen.getPathClass() && now.equals(colourOfClass);
        concept = chosen;
        colourOfClass = now;
        row.setDisable(chosen == null);
        if (!same && chosen != null) {
            List<PathClass> listed = qupath.getAvailablePathClasses();
            name.getItems().setAll(
                listed.stream().filter(item -> item != PathClass.getNullClass()).map(PathClass::toString).toList());
            name.setValue(chosen.getClassName());
            name.getEditor().setText(chosen.getClassName());
            offer(now);
        }
    }

    private void offer(Color known) {
        colourOfName = known;
        colour.setValue(known);
    }

    private void ignore() {
        List<Integer> numbers = concept.getConcepts();
        start(job -> job.ignore(numbers));
    }

    private void apply() {
        List<Integer> numbers = concept.getConcepts();
        String given = name.getEditor().getText().strip();
        boolean renamed = !given.equals(concept.getClassName());
        boolean coloured = !colour.getValue().equals(colourOfName);
        if (renamed || coloured) {
            Color chosen = colour.getValue();
            start(job -> {
                if (renamed) {
                    numbers.forEach(number -> job.name(number, given));
                }
                return coloured ? job.colour(given, byte255(chosen.getRed()), byte255(chosen.getGreen()),
                    byte255(chosen.getBlue())) : job;
            });
        }
    }

    /** Beside the window: joining the outlines of merged concepts can take its time. */
    private void start(UnaryOperator<NamingJob> settings) {
        ImageData<BufferedImage> imageData = qupath.getImageData();
        String dictionary = concept.getDictionary();
        row.setDisable(true);
        Background.start(ReviewWindow.TITLE, () -> {
            try {
                NamingReport report = settings.apply(ConceptSeg.name(imageData).dictionary(dictionary)).apply();
                Platform.runLater(() -> say.accept(String.join("\n", report.getDone())));
            } finally {
                Platform.runLater(() -> row.setDisable(concept == null));
            }
        });
    }

    private static int byte255(double share) {
        return (int) Math.round(share * 255);
    }
}
