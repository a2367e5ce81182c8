/*
 * ConceptSeg: name and merge concepts
 *
 * What it does
 *   1. Gives concepts names and colours. Known classes (Tumor, Stroma, ...) keep the colour that QuPath gives them.
 *   2. Merges concepts that get the same name: neighbours become one annotation.
 *   3. Ignores or hides concepts.
 *   4. Remembers all that for the project, in conceptseg-labels.json: later segmentations and other images use it.
 *   Needs no server.
 *
 * How to use
 *   1. Open an image with ConceptSeg results.
 *   2. Extensions > ConceptSeg > Name and merge concepts: a table asks for the names.
 *      Or fill in the settings below and Run. With empty settings, "Run for project" and QuPath script apply what is
 *      remembered, which names all images of a project alike.
 *   Headless, names can be arguments: QuPath script ... --args 3=Tumor --args 7=Tumor --args 5=Ignore*
 */

import io.github.conceptseg.ConceptSeg // "unable to resolve class": run `conceptseg qupath install`, restart QuPath
import javafx.beans.value.ChangeListener
import javafx.scene.control.ButtonType
import javafx.scene.control.CheckBox
import javafx.scene.control.ColorPicker
import javafx.scene.control.ComboBox
import javafx.scene.control.Label
import javafx.scene.control.ScrollPane
import javafx.scene.layout.GridPane
import javafx.scene.paint.Color
import qupath.fx.dialogs.Dialogs
import qupath.fx.utils.FXUtils
import qupath.lib.common.ColorTools
import qupath.lib.objects.classes.PathClass

// ---------- Settings ----------

// Concept number to class name. The same name twice merges; a name that ends in * is ignored by QuPath's own
// commands. For example: [3: "Tumor", 7: "Tumor", 5: "Ignore*"]
def names = [:]

// Class name to [red, green, blue], 0 to 255; only for classes whose colour shall change.
// For example: ["Tumor": [200, 0, 0]]
def colours = [:]

// Class names that shall not be drawn in the open window, for example ["Ignore*"].
def hidden = []

// Join neighbours of merged concepts into one annotation. false keeps all outlines, so that concepts can get
// different names again later.
def mergeShapes = true

// Keep names and colours for the project. false changes this image only.
def remember = true

// Dictionary that the numbers belong to; only needed when the image has results of several.
def dictionary = ""

// ---------- Script ----------

def imageData = getCurrentImageData()
if (imageData == null) {
    say("No image is open: open one first.")
    return
}
def own = ConceptSeg.results(imageData)
if (own.isEmpty()) {
    say("Nothing to name: no ConceptSeg results in this image. Segment something first.")
    return
}
args.each { argument ->
    def parts = argument.split("=", 2)
    if (parts.size() != 2 || !parts[0].isInteger())
        throw new IllegalArgumentException("Expected arguments such as 3=Tumor, got ${argument}.")
    names[parts[0].toInteger()] = parts[1]
}
def shown = []
if (!names && !colours && !hidden && getCurrentViewer()?.getImageData() == imageData) {
    def present = own.collect { ConceptSeg.dictionary(it) }.unique()
    if (!dictionary)
        dictionary = present.size() == 1 ? present[0]
                : Dialogs.showChoiceDialog("Name and merge concepts", "Dictionary", present, present[0])
    def answer = !dictionary ? null
            : FXUtils.callOnApplicationThread { ask(own.findAll { ConceptSeg.dictionary(it) == dictionary }) }
    if (answer == null) {
        println "Cancelled: nothing was changed."
        return
    }
    (names, colours, hidden, shown) = answer
}
def job = ConceptSeg.name(imageData).names(names).hide(hidden).show(shown).mergeShapes(mergeShapes).remember(remember)
colours.each { name, rgb -> job.colour(name, *rgb) }
if (dictionary)
    job.dictionary(dictionary)
say(job.apply())

// ---------- Helpers ----------

// To the log, and as a notification if the open window shows this image.
def say(text) {
    println text
    if (getQuPath() != null && getCurrentViewer()?.getImageData() == getCurrentImageData())
        Dialogs.showInfoNotification("ConceptSeg", text.toString())
}

// The table of the menu item: one row per concept. Returns [names, colours, hidden, shown], null if cancelled.
def ask(own) {
    def pane = new GridPane()
    pane.setHgap(8)
    pane.setVgap(4)
    ["Concept", "Area %", "Name (same name = merged)", "Colour", "Hide"].eachWithIndex { text, column ->
        pane.add(new Label(text), column, 0)
    }
    def classes = getQuPath().getAvailablePathClasses().collect { it.toString() }
    def overlay = getQuPath().getOverlayOptions()
    def total = own.sum { it.getROI().getArea() }
    def fxColour = { ColorTools.with { c -> Color.rgb(c.red(it), c.green(it), c.blue(it)) } }
    def rows = []
    def groups = own.groupBy { ConceptSeg.concepts(it) }
    groups.keySet().sort { it[0] }.eachWithIndex { concepts, index ->
        def objects = groups[concepts]
        def pathClass = objects[0].getPathClass()
        def old = pathClass?.toString() ?: ""
        def name = new ComboBox()
        name.getItems().setAll(classes)
        name.setEditable(true)
        name.setValue(old)
        def colour = new ColorPicker(fxColour(pathClass?.getColor() ?: 0x808080))
        def hide = new CheckBox()
        hide.setSelected(pathClass != null && overlay.isPathClassHidden(pathClass))
        def row = [concepts: concepts, old: old, name: name, colour: colour, first: colour.getValue(), hide: hide]
        // A known class brings its colour, which is no choice of the user's.
        name.valueProperty().addListener({ _, before, now ->
            if (now in classes) {
                row.first = fxColour(PathClass.fromString(now).getColor())
                colour.setValue(row.first)
            }
        } as ChangeListener)
        def percent = String.format(Locale.ROOT, "%.1f", 100 * objects.sum { it.getROI().getArea() } / total)
        [new Label(concepts.join(",")), new Label(percent), name, colour, hide].eachWithIndex { node, column ->
            pane.add(node, column, index + 1)
        }
        rows << row
    }
    def scroll = new ScrollPane(pane)
    scroll.setFitToWidth(true)
    scroll.setPrefViewportHeight(Math.min(480, 40 * (rows.size() + 1)))
    def button = Dialogs.builder().title("Name and merge concepts").content(scroll).resizable()
        .buttons(ButtonType.APPLY, ButtonType.CANCEL).showAndWait().orElse(ButtonType.CANCEL)
    if (button != ButtonType.APPLY)
        return null
    def names = [:]
    def colours = [:]
    def hidden = []
    def shown = []
    rows.each { row ->
        def name = row.name.getEditor().getText().trim()
        if (name && name != row.old)
            row.concepts.each { names[it] = name }
        def c = row.colour.getValue()
        if (c != row.first)
            colours[name ?: row.old] = [c.getRed(), c.getGreen(), c.getBlue()].collect { Math.round(it * 255) as int }
        if (name ?: row.old)
            (row.hide.isSelected() ? hidden : shown) << (name ?: row.old)
    }
    [names, colours, hidden, shown - hidden]
}
