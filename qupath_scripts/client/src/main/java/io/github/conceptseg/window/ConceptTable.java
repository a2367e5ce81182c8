package io.github.conceptseg.window;

import io.github.conceptseg.ReviewFilter;
import io.github.conceptseg.ReviewedConcept;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.stream.Collectors;
import javafx.beans.property.ReadOnlyObjectWrapper;
import javafx.scene.Node;
import javafx.scene.control.CheckBox;
import javafx.scene.control.Label;
import javafx.scene.control.TableCell;
import javafx.scene.control.TableColumn;
import javafx.scene.control.TableView;
import javafx.scene.control.Tooltip;
import javafx.scene.paint.Color;
import javafx.scene.shape.Rectangle;
import qupath.lib.objects.classes.PathClass;

/** The concepts of an image, one per row. */
final class ConceptTable {
    private static final int SWATCH_PX = 12;
    private static final double UM2_PER_MM2 = 1e6;

    private final TableView<ReviewedConcept> table = new TableView<>();
    private final TableColumn<ReviewedConcept, ReviewedConcept> dictionary =
        column("Dictionary", "What the numbers belong to", 110, ReviewedConcept::getDictionary);
    private boolean filling;

    /**
     * An empty table.
     *
     * @param spotlight what shows and hides classes
     * @param onChoice told the concept that the user chose
     */
    ConceptTable(Spotlight spotlight, Consumer<ReviewedConcept> onChoice) {
        TableColumn<ReviewedConcept, ReviewedConcept> shown = column("Show",
            "Draw its annotations, as the eye in QuPath's list of classes does (H)", 45, concept -> "");
        shown.setCellFactory(column -> new ShownCell(spotlight));
        shown.setComparator(Comparator.comparing(concept -> spotlight.isShown(concept.getPathClass())));
        TableColumn<ReviewedConcept, ReviewedConcept> name =
            column("Concept", "Class of its annotations", 180, ReviewedConcept::getClassName);
        name.setCellFactory(column -> new NameCell());
        TableColumn<ReviewedConcept, ReviewedConcept> number =
            column("No.", "Number in the dictionary; several where concepts share the class", 50, ConceptTable::numbers);
        number.setComparator(Comparator.comparing(concept -> concept.getConcepts().get(0)));
        table.getColumns().setAll(List.of(shown, name, number, dictionary,
            numeric("Polygons", "How many annotations it has", 75, ReviewedConcept::getCount, "%.0f"),
            area(),
            numeric("Area %", "Share of the area of all concepts", 60, ReviewedConcept::getPercent, "%.1f"),
            counts(ReviewFilter.ACCEPTED, "Annotations that were accepted"),
            counts(ReviewFilter.REJECTED, "Annotations that were rejected; they are drawn in grey"),
            counts(ReviewFilter.REASSIGNED, "Annotations that came from another concept")));
        table.setPlaceholder(new Label("No ConceptSeg results in this image."));
        table.getSelectionModel().selectedItemProperty().addListener((property, before, now) -> {
            if (!filling) {
                onChoice.accept(now);
            }
        });
    }

    Node node() {
        return table;
    }

    /** Show these concepts; the chosen one stays chosen. */
    void show(List<ReviewedConcept> concepts) {
        ReviewedConcept chosen = chosen();
        filling = true;
        try {
            dictionary.setVisible(concepts.stream().map(ReviewedConcept::getDictionary).distinct().count() > 1);
            table.getItems().setAll(concepts);
            table.sort();
            again(chosen).or(() -> concepts().stream().findFirst())
                .ifPresent(table.getSelectionModel()::select);
        } finally {
            filling = false;
        }
    }

    List<ReviewedConcept> concepts() {
        return table.getItems();
    }

    /** The chosen concept; null without one. */
    ReviewedConcept chosen() {
        return table.getSelectionModel().getSelectedItem();
    }

    void choose(ReviewedConcept concept) {
        table.getSelectionModel().select(concept);
        table.scrollTo(concept);
    }

    static String numbers(ReviewedConcept concept) {
        return concept.getConcepts().stream().map(String::valueOf).collect(Collectors.joining(", "));
    }

    static Node swatch(PathClass pathClass) {
        Rectangle swatch = new Rectangle(SWATCH_PX, SWATCH_PX, colour(pathClass));
        swatch.setStroke(Color.gray(0.4));
        return swatch;
    }

    static Color colour(PathClass pathClass) {
        int rgb = pathClass == null || pathClass.getColor() == null ? 0x808080 : pathClass.getColor();
        return Color.rgb(rgb >> 16 & 0xff, rgb >> 8 & 0xff, rgb & 0xff);
    }

    /** What became of the chosen concept: the one with its class, or the one with its number if the class changed. */
    private Optional<ReviewedConcept> again(ReviewedConcept chosen) {
        if (chosen == null) {
            return Optional.empty();
        }
        List<ReviewedConcept> ofDictionary = concepts().stream()
            .filter(concept -> concept.getDictionary().equals(chosen.getDictionary())).toList();
        return ofDictionary.stream().filter(concept -> concept.getClassName().equals(chosen.getClassName())).findFirst()
            .or(() -> ofDictionary.stream()
                .filter(concept -> concept.getConcepts().contains(chosen.getConcepts().get(0))).findFirst());
    }

    private static TableColumn<ReviewedConcept, ReviewedConcept> column(String title, String tip, double width,
            Function<ReviewedConcept, String> text) {
        TableColumn<ReviewedConcept, ReviewedConcept> column = new TableColumn<>();
        Label header = new Label(title);
        header.setTooltip(new Tooltip(tip));
        column.setGraphic(header);
        column.setPrefWidth(width);
        column.setCellValueFactory(row -> new ReadOnlyObjectWrapper<>(row.getValue()));
        column.setCellFactory(ignored -> new TextCell(text));
        column.setComparator(Comparator.comparing(text));
        return column;
    }

    private static TableColumn<ReviewedConcept, ReviewedConcept> numeric(String title, String tip, double width,
            Function<ReviewedConcept, Number> value, String format) {
        TableColumn<ReviewedConcept, ReviewedConcept> column = column(title, tip, width,
            concept -> String.format(Locale.ROOT, format, value.apply(concept).doubleValue()));
        column.setComparator(Comparator.comparingDouble(concept -> value.apply(concept).doubleValue()));
        column.setStyle("-fx-alignment: center-right;");
        return column;
    }

    private static TableColumn<ReviewedConcept, ReviewedConcept> counts(ReviewFilter filter, String tip) {
        return numeric(filter.toString(), tip, 92, concept -> concept.count(filter), "%.0f");
    }

    private static TableColumn<ReviewedConcept, ReviewedConcept> area() {
        TableColumn<ReviewedConcept, ReviewedConcept> column = numeric("Area mm²", "Area of its annotations", 85,
            ReviewedConcept::getAreaUm2, "%.0f");
        column.setCellFactory(ignored -> new TextCell(concept -> concept.isCalibrated()
            ? String.format(Locale.ROOT, concept.getAreaUm2() < UM2_PER_MM2 ? "%.4f" : "%.2f",
                concept.getAreaUm2() / UM2_PER_MM2)
            : String.format(Locale.ROOT, "%.0f px²", concept.getAreaUm2())));
        return column;
    }

    private static final class TextCell extends TableCell<ReviewedConcept, ReviewedConcept> {
        private final Function<ReviewedConcept, String> text;

        TextCell(Function<ReviewedConcept, String> text) {
            this.text = text;
        }

        @Override
        protected void updateItem(ReviewedConcept concept, boolean empty) {
            super.updateItem(concept, empty);
            setText(empty || concept == null ? null : text.apply(concept));
        }
    }

    private static final class NameCell extends TableCell<ReviewedConcept, ReviewedConcept> {
        @Override
        protected void updateItem(ReviewedConcept concept, boolean empty) {
            super.updateItem(concept, empty);
            boolean none = empty || concept == null;
            setText(none ? null : concept.getClassName());
            setGraphic(none ? null : swatch(concept.getPathClass()));
        }
    }

    private static final class ShownCell extends TableCell<ReviewedConcept, ReviewedConcept> {
        private final CheckBox box = new CheckBox();
        private final Spotlight spotlight;

        ShownCell(Spotlight spotlight) {
            this.spotlight = spotlight;
            box.setFocusTraversable(false);
            box.setOnAction(event -> spotlight.show(getItem().getPathClass(), box.isSelected()));
        }

        @Override
        protected void updateItem(ReviewedConcept concept, boolean empty) {
            super.updateItem(concept, empty);
            boolean none = empty || concept == null;
            setGraphic(none ? null : box);
            if (!none) {
                box.setSelected(spotlight.isShown(concept.getPathClass()));
                box.setAccessibleText("Show " + concept.getClassName());
            }
        }
    }
}
