package io.github.conceptseg.window;

import io.github.conceptseg.ConceptSeg;
import io.github.conceptseg.Counted;
import io.github.conceptseg.Review;
import io.github.conceptseg.ReviewFilter;
import io.github.conceptseg.ReviewedConcept;
import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.qupath.Background;
import io.github.conceptseg.qupath.Changes;
import io.github.conceptseg.qupath.Results;
import io.github.conceptseg.qupath.Verdict;
import java.awt.image.BufferedImage;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.UUID;
import java.util.function.BiFunction;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import javafx.animation.Animation;
import javafx.animation.PauseTransition;
import javafx.application.Platform;
import javafx.beans.value.ChangeListener;
import javafx.geometry.Bounds;
import javafx.geometry.Insets;
import javafx.geometry.Orientation;
import javafx.geometry.Pos;
import javafx.scene.Node;
import javafx.scene.Parent;
import javafx.scene.Scene;
import javafx.scene.control.Button;
import javafx.scene.control.CheckBox;
import javafx.scene.control.ChoiceBox;
import javafx.scene.control.Label;
import javafx.scene.control.MenuButton;
import javafx.scene.control.MenuItem;
import javafx.scene.control.Separator;
import javafx.scene.control.Tooltip;
import javafx.scene.layout.HBox;
import javafx.scene.layout.Priority;
import javafx.scene.layout.Region;
import javafx.scene.layout.VBox;
import javafx.stage.Stage;
import javafx.util.Duration;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.UndoRedoManager;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.objects.hierarchy.events.PathObjectSelectionModel;

/** The window in which a person goes through the concepts of the image that QuPath shows. */
public final class ReviewWindow {
    static final String TITLE = "Review concepts";

    /** Many changes in a row, as while drawing, are looked at once. */
    private static final Duration BETWEEN_UPDATES = Duration.millis(200);
    private static final Logger LOG = LoggerFactory.getLogger("ConceptSeg");
    private static final double WIDTH = 830;
    private static final double HEIGHT = 380;
    private static final double MARGIN = 16;

    private static ReviewWindow open;

    private final QuPathGUI qupath;
    private final Stage stage = new Stage();
    private final Spotlight spotlight;
    private final ConceptTable table;
    private final NamingRow naming;
    private final ChoiceBox<ReviewFilter> filter = new ChoiceBox<>();
    private final CheckBox goOn = new CheckBox("then next");
    private final MenuButton reassign = new MenuButton("Reassign to");
    private final Label status = new Label();
    private final Label done = new Label();
    private final PauseTransition update = new PauseTransition(BETWEEN_UPDATES);
    private final ChangeListener<ImageData<BufferedImage>> onImage = (property, before, now) -> follow(now);
    private final ChangeListener<Number> onVisibility = (property, before, now) -> later();
    private ImageData<BufferedImage> imageData;
    private ImageWatch watch;

    private ReviewWindow(QuPathGUI qupath) {
        this.qupath = qupath;
        spotlight = new Spotlight(qupath);
        table = new ConceptTable(spotlight, concept -> tellChoice());
        naming = new NamingRow(qupath, done::setText);
        update.setOnFinished(event -> refresh());
        stage.initOwner(qupath.getStage());
        stage.setScene(new Scene(content(), WIDTH, HEIGHT));
        new Shortcuts(this).install(stage.getScene());
    }

    /** Open the window, or bring it to the front. */
    public static void open(QuPathGUI qupath) {
        Platform.runLater(() -> {
            if (open == null) {
                open = new ReviewWindow(qupath);
                open.show();
            }
            open.stage.toFront();
            open.stage.requestFocus();
        });
    }

    private void show() {
        follow(qupath.getImageData());
        qupath.imageDataProperty().addListener(onImage);
        qupath.getOverlayOptions().lastChangeTimestamp().addListener(onVisibility);
        stage.setOnHidden(event -> close());
        stage.show();
        Platform.runLater(this::place); // a window manager may place a window that opens elsewhere
    }

    /** Below left, over QuPath's lists: what is reviewed comes to the middle of the viewer on their right. */
    private void place() {
        Parent root = qupath.getStage().getScene().getRoot();
        Bounds main = root.localToScreen(root.getLayoutBounds());
        if (main != null) {
            stage.setX(main.getMinX() + MARGIN);
            stage.setY(main.getMaxY() - HEIGHT - 3 * MARGIN); // and its title
        }
    }

    private void close() {
        qupath.imageDataProperty().removeListener(onImage);
        qupath.getOverlayOptions().lastChangeTimestamp().removeListener(onVisibility);
        update.stop();
        follow(null);
        open = null;
    }

    private void follow(ImageData<BufferedImage> shown) {
        if (watch != null) {
            watch.close();
            watch = null;
        }
        imageData = shown;
        done.setText("");
        if (shown != null) {
            watch = new ImageWatch(shown.getHierarchy(), this::later, this::selectionChanged);
        }
        refresh();
    }

    private void later() {
        if (update.getStatus() != Animation.Status.RUNNING) {
            update.playFromStart();
        }
    }

    private void refresh() {
        table.show(imageData == null ? List.of() : ConceptSeg.review(imageData).concepts());
        stage.setTitle(imageData == null ? TITLE
            : TITLE + " - " + imageData.getServer().getMetadata().getName());
        tellChoice();
    }

    /** An undo replaces the objects: never act on those of before. */
    private void catchUp() {
        if (update.getStatus() == Animation.Status.RUNNING) {
            update.stop();
            refresh();
        }
    }

    /** What the user selects in the viewer is what the table shows. */
    private void selectionChanged() {
        List<PathObject> selected = selected();
        if (selected.size() == 1) {
            ReviewedConcept concept = conceptOf(selected.get(0));
            if (concept != null && concept != table.chosen()) {
                table.choose(concept);
            }
        }
        status.setText(statusText());
    }

    /** Bring everything below the table in line with the chosen concept. */
    private void tellChoice() {
        naming.choose(table.chosen());
        reassign.getItems().setAll(targets().entrySet().stream().map(target -> {
            MenuItem item = new MenuItem(target.getKey() + "  " + target.getValue());
            item.setOnAction(event -> reassign(target.getKey()));
            return item;
        }).toList());
        status.setText(statusText());
    }

    /** The classes of the concepts that something can be reassigned to, by number. */
    private Map<Integer, String> targets() {
        Map<Integer, String> targets = new TreeMap<>();
        ReviewedConcept chosen = table.chosen();
        if (chosen != null) {
            try {
                targets.putAll(ConceptSeg.remembered(imageData, chosen.getDictionary()));
            } catch (ConceptSegException damaged) {
                LOG.warn(damaged.getMessage()); // a name that is applied will say so, too; reviewing needs no names
            }
            table.concepts().stream().filter(concept -> concept.getDictionary().equals(chosen.getDictionary()))
                .forEach(concept -> concept.getConcepts().forEach(number -> targets.put(number, concept.getClassName())));
        }
        return targets;
    }

    private String statusText() {
        List<PathObject> selected = selected();
        if (table.chosen() == null) {
            return "";
        }
        String text = switch (selected.size()) {
            case 0 -> "Nothing is selected. N goes to the least certain annotation of " + table.chosen().getClassName()
                + ".";
            case 1 -> describe(selected.get(0));
            default -> selected.size() + " ConceptSeg annotations are selected.";
        };
        PathObjectHierarchy hierarchy = imageData.getHierarchy();
        return Changes.canUndo(imageData, hierarchy.nObjects()) ? text
            : text + " No undo: the image has more objects than QuPath's preference 'Maximum undo hierarchy size'.";
    }

    private String describe(PathObject selected) {
        ReviewedConcept concept = conceptOf(selected);
        String place = concept == null ? "" : concept.getClassName() + ": "
            + (concept.getAnnotations().indexOf(selected) + 1) + " of " + concept.getCount();
        double purity = Results.purity(selected);
        Verdict verdict = Verdict.of(selected);
        return place + (Double.isNaN(purity) ? "" : String.format(Locale.ROOT, ", purity %.2f", purity))
            + (verdict == null ? "" : ", " + verdict.text())
            + (Results.isReassigned(selected) ? ", reassigned; found was " + Results.foundConcepts(selected) : "");
    }

    private ReviewedConcept conceptOf(PathObject result) {
        return table.concepts().stream().filter(concept -> concept.getPathClass() == result.getPathClass()
            && concept.getDictionary().equals(Results.dictionary(result))).findFirst().orElse(null);
    }

    private List<PathObject> selected() {
        return imageData == null ? List.of()
            : selection().getSelectedObjects().stream().filter(Results::isResult).toList();
    }

    private PathObjectSelectionModel selection() {
        return imageData.getHierarchy().getSelectionModel();
    }

    // What buttons and keys do.

    void next() {
        go((concept, current) -> concept.next(current, filter.getValue()));
    }

    void previous() {
        go((concept, current) -> concept.previous(current, filter.getValue()));
    }

    void selectAll() {
        catchUp();
        if (table.chosen() != null) {
            List<PathObject> wanted = table.chosen().getAnnotations().stream().filter(filter.getValue()).toList();
            selection().setSelectedObjects(wanted, wanted.isEmpty() ? null : wanted.get(0));
        }
    }

    void showOrHide() {
        if (table.chosen() != null) {
            spotlight.show(table.chosen().getPathClass(), !spotlight.isShown(table.chosen().getPathClass()));
        }
    }

    void accept() {
        change("Accepted", Review::accept);
    }

    void reject() {
        change("Rejected", Review::reject);
    }

    void clear() {
        change("Cleared", Review::clear);
    }

    void reassign(int concept) {
        change("Reassigned to concept " + concept + ":", (review, selected) -> review.reassign(selected, concept));
    }

    void undo() {
        travel(UndoRedoManager::undoOnce);
    }

    void redo() {
        travel(UndoRedoManager::redoOnce);
    }

    /** QuPath forgets the selection, and with it the place in the order of review. */
    private void travel(Consumer<UndoRedoManager> step) {
        if (imageData != null) {
            Set<UUID> selected = selected().stream().map(PathObject::getID).collect(Collectors.toSet());
            step.accept(qupath.getUndoRedoManager());
            selection().setSelectedObjects(
                Results.of(imageData).stream().filter(result -> selected.contains(result.getID())).toList(), null);
        }
    }

    private void go(BiFunction<ReviewedConcept, PathObject, PathObject> step) {
        catchUp();
        if (table.chosen() != null) {
            List<PathObject> selected = selected();
            PathObject found = step.apply(table.chosen(), selected.isEmpty() ? null : selected.get(0));
            if (found == null) {
                done.setText("No annotation of " + table.chosen().getClassName() + " is: " + filter.getValue() + ".");
            } else {
                spotlight.show(found);
            }
        }
    }

    private void change(String what, BiFunction<Review, List<PathObject>, Integer> action) {
        if (imageData == null) {
            return;
        }
        catchUp();
        List<PathObject> selected = selected();
        // Before the change, which may take it out of the order.
        PathObject next = goOn.isSelected() && selected.size() == 1 && table.chosen() != null
            ? table.chosen().next(selected.get(0), filter.getValue()) : null;
        Background.run(TITLE, () -> {
            int changed = action.apply(ConceptSeg.review(imageData), selected);
            done.setText(what + " " + Counted.of(changed, "annotation") + ".");
            refresh();
            if (next != null && next != selected.get(0)) {
                spotlight.show(next);
            }
        });
    }

    private VBox content() {
        filter.getItems().setAll(ReviewFilter.values());
        filter.setValue(ReviewFilter.ALL);
        filter.setTooltip(new Tooltip("Which annotations Next, Previous and Select all go to"));
        goOn.setSelected(true);
        goOn.setTooltip(new Tooltip("Go to the next annotation after each decision on one"));
        reassign.setTooltip(new Tooltip("Give the selected annotations another concept (keys 0 to 9 for concepts 0 to 9)"));
        HBox look = line(
            button("Previous", "The next more uncertain annotation of the concept (P)", this::previous),
            button("Next", "The next annotation of the concept, the least certain first (N)", this::next),
            button("Select all", "Select the annotations of the concept (S)", this::selectAll),
            filter, new Separator(Orientation.VERTICAL),
            button("Accept", "The selected annotations are what their concept stands for (A)", this::accept),
            button("Reject", "They are not; they stay, drawn in grey (R)", this::reject),
            button("Clear", "Take back what was said about the selected annotations (C)", this::clear),
            reassign, goOn);
        VBox content = new VBox(8, table.node(), look, naming.node(), status, done);
        VBox.setVgrow(table.node(), Priority.ALWAYS);
        done.setWrapText(true);
        done.setMinHeight(Region.USE_PREF_SIZE);
        content.setPadding(new Insets(8));
        return content;
    }

    private static HBox line(Node... nodes) {
        HBox line = new HBox(6, nodes);
        line.setAlignment(Pos.CENTER_LEFT);
        return line;
    }

    private static Button button(String text, String tip, Runnable action) {
        Button button = new Button(text);
        button.setTooltip(new Tooltip(tip));
        button.setOnAction(event -> action.run());
        return button;
    }
}
