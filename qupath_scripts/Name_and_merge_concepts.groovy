/*
 * ConceptSeg: name and merge concepts
 *
 * What it does
 *   1. Gives concepts names and colours. Known classes (Tumor, Stroma, ...) keep the colour that QuPath gives them.
 *   2. Merges concepts that get the same name: neighbours become one annotation.
 *   3. Ignores or hides concepts.
 *   4. Remembers all that for the project, in conceptseg-labels.json: later runs and other images use it.
 *   Needs no server.
 *
 * How to use
 *   1. Open an image with ConceptSeg results.
 *   2. Extensions > ConceptSeg > Name and merge concepts: a table asks for the names.
 *      Or fill in the settings below and Run. With empty settings, "Run for project" and QuPath script apply what is
 *      remembered, which names all images of a project alike.
 *   Headless, names can be arguments: QuPath script ... --args 3=Tumor --args 7=Tumor --args 5=Ignore*
 */

import com.google.gson.GsonBuilder
import com.google.gson.ToNumberPolicy
import java.nio.file.Files
import java.nio.file.StandardCopyOption
import javafx.beans.value.ChangeListener
import javafx.scene.control.ButtonType
import javafx.scene.control.CheckBox
import javafx.scene.control.ColorPicker
import javafx.scene.control.ComboBox
import javafx.scene.control.Label
import javafx.scene.control.ScrollPane
import javafx.scene.layout.GridPane
import javafx.scene.paint.Color
import org.locationtech.jts.geom.prep.PreparedGeometryFactory
import org.locationtech.jts.index.strtree.STRtree
import qupath.fx.dialogs.Dialogs
import qupath.fx.utils.FXUtils
import qupath.lib.common.ColorTools
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.GeometryTools

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
args.each { argument ->
    def parts = argument.split("=", 2)
    if (parts.size() != 2 || !parts[0].isInteger())
        throw new IllegalArgumentException("Expected arguments such as 3=Tumor, got ${argument}.")
    names[parts[0].toInteger()] = parts[1]
}
def own = getAllObjects(false).findAll { it.getMetadata().containsKey("conceptseg.run") && it.hasROI() }
if (own.isEmpty()) {
    say("Nothing to name: no ConceptSeg results in this image. Segment something first.")
    return
}
def dictionaryOf = { it.getMetadata()["conceptseg.dictionary"] }
def conceptsOf = { it.getMetadata()["conceptseg.concept"].split(",") as List }
def present = own.collect(dictionaryOf).unique()
if (!dictionary && present.size() == 1)
    dictionary = present[0]

// What the project remembers:
// {"version": 1, "dictionaries": {ID: {"concepts": {NUMBER: {"name", "colour", "ignored"}}}}}
def file = getProject() == null ? null : new File(buildFilePath(PROJECT_BASE_DIR, "conceptseg-labels.json"))
def labels = readLabels(file)
def remembered = { id -> labels["dictionaries"][id]?.get("concepts") ?: [:] }

def viewer = getCurrentViewer()
def interactive = viewer?.getImageData() == imageData
if (!names && !colours && !hidden && interactive) {
    def chosen = dictionary ?: Dialogs.showChoiceDialog("Name and merge concepts", "Dictionary", present, present[0])
    if (chosen == null)
        return
    dictionary = chosen
    def answer = FXUtils.callOnApplicationThread { ask(own.findAll { dictionaryOf(it) == chosen }, conceptsOf) }
    if (answer == null) {
        println "Cancelled: nothing was changed."
        return
    }
    (names, colours, hidden) = answer
}
if (names && !dictionary)
    throw new IllegalArgumentException("The image has several dictionaries: set dictionary to one of ${present}.")
names.values().each { checkName(it) }

// 1. The new names join the remembered ones.
if (names) {
    def concepts = labels["dictionaries"].computeIfAbsent(dictionary) { [:] }.computeIfAbsent("concepts") { [:] }
    names.each { number, name ->
        def entry = concepts.computeIfAbsent(number.toString()) { [:] }
        entry["name"] = name.trim()
        entry["ignored"] = name.trim().endsWith("*")
        entry.remove("colour")
    }
}
labels["dictionaries"].values().each { entry ->
    entry["concepts"]?.values()?.findAll { colours[it["name"]] }?.each { it["colour"] = colours[it["name"]] }
}

// 2. Every result gets the class of its concept. StandardPathClasses makes QuPath's own colours known.
PathClass.StandardPathClasses.TUMOR
def classes = new LinkedHashSet()
def changed = new LinkedHashSet()
def ambiguous = 0
own.each { object ->
    def entries = conceptsOf(object).collect { remembered(dictionaryOf(object))[it] }
    def wanted = entries.collect { it == null ? null : className(it) }.unique()
    if (wanted.size() > 1)
        ambiguous++  // made of concepts that have different names now
    else if (wanted[0] != null) {
        def pathClass = PathClass.fromString(wanted[0])
        def colour = entries.find { it["colour"] }?.get("colour")
        if (colour && pathClass.getColor() != rgb(colour)) {
            pathClass.setColor(rgb(colour))
            changed << object
        }
        classes << pathClass
        if (object.getPathClass() != pathClass) {
            object.setPathClass(pathClass)
            changed << object
        }
    }
}
colours.findAll { name, _ -> own.any { it.getPathClass()?.toString() == name } }.each { name, colour ->
    PathClass.fromString(name).setColor(rgb(colour))
    changed.addAll(own.findAll { it.getPathClass()?.toString() == name })
}

// 3. Neighbours with the same class become one.
def mergeable = mergeShapes ? own.findAll { it.getPathClass() in classes } : []
def joined = join(mergeable, conceptsOf, imageData)
changed.removeAll(joined.removed)
changed.addAll(joined.made*.object)

// 4. QuPath's objects and class list, the window, and the memory.
def commit = {
    joined.removed.groupBy { it.getParent() }.each { parent, gone -> parent.removeChildObjects(gone) }
    joined.made.each {
        it.object.addChildObjects(it.inside)
        it.parent.addChildObject(it.object)
    }
    if (classes)
        listClasses(classes)
    if (changed)
        imageData.getHierarchy().fireObjectsChangedEvent(this, changed, false)  // one redraw, one undo step
}
if (getQuPath() == null)
    commit()
else
    FXUtils.runOnApplicationThread(commit)
if (viewer != null)
    FXUtils.runOnApplicationThread {
        hidden.each { viewer.getOverlayOptions().setPathClassHidden(PathClass.fromString(it), true) }
    }
if (remember && (names || colours)) {
    if (file == null)
        say("Not remembered: this image is in no project. Create a project (File > Project) to keep names.")
    else {
        writeLabels(file, labels)
        println "Remembered in ${file}."
    }
}
if (ambiguous)
    say("${ambiguous} annotations were merged from concepts that have different names now and stay as they are. " +
            "Segment again to separate them.")
def gone = joined.removed as Set
def counts = (own.findAll { !(it in gone) } + joined.made*.object).countBy { it.getPathClass()?.toString() }
say("Named ${changed.size()} ConceptSeg annotations, merged ${joined.removed.size()} into ${joined.made.size()}. " +
        "Now: " + counts.sort().collect { name, count -> "${name} (${count})" }.join(", ") + ".")

// ---------- Helpers ----------

def rgb(colour) {
    ColorTools.packRGB(colour[0] as int, colour[1] as int, colour[2] as int)
}

// The class of a remembered concept; an ignored one ends in *, which QuPath's own commands leave out.
def className(entry) {
    def name = entry["name"] ?: (entry["ignored"] ? "Ignore" : null)
    entry["ignored"] && !name.endsWith("*") ? name + "*" : name
}

def checkName(name) {
    if (!name?.trim() || name =~ /[:\p{Cntrl}\u2028\u2029]/)
        throw new IllegalArgumentException("Expected a class name without ':' and line breaks, got '${name}'.")
}

def readLabels(file) {
    if (file == null || !file.isFile())
        return ["version": 1, "dictionaries": [:]]
    def labels
    try {
        labels = gson().fromJson(file.getText("UTF-8"), Map)
    } catch (com.google.gson.JsonParseException e) {
        // Without a cause: of an exception with one, QuPath shows only the innermost message.
        throw new IOException("${file} is damaged (${e.getMessage()}): repair or delete it. Nothing was changed.")
    }
    if (labels?.get("version") != 1 || !(labels["dictionaries"] instanceof Map))
        throw new IOException("${file} is of another version: update ConceptSeg or delete it. Nothing was changed.")
    labels
}

// The file appears whole or not at all.
def writeLabels(file, labels) {
    def temporary = Files.createTempFile(file.toPath().getParent(), ".conceptseg-labels", ".json")
    try {
        temporary.toFile().setText(gson().toJson(labels) + "\n", "UTF-8")
        Files.move(temporary, file.toPath(), StandardCopyOption.REPLACE_EXISTING)
    } finally {
        Files.deleteIfExists(temporary)
    }
}

def gson() {
    new GsonBuilder().setPrettyPrinting().disableHtmlEscaping()
        .setObjectToNumberStrategy(ToNumberPolicy.LONG_OR_DOUBLE).create()
}

// New classes join QuPath's class list, which belongs to the project.
def listClasses(classes) {
    if (getQuPath() != null) {
        def list = getQuPath().getAvailablePathClasses()
        list.addAll(classes.findAll { !list.contains(it) })
    } else if (getProject() != null) {
        def list = getProject().getPathClasses()
        getProject().setPathClasses(list + classes.findAll { !list.contains(it) })
    }
}

// Unions of the annotations of the same class, parent and plane that share an edge. Changes nothing yet.
def join(objects, conceptsOf, imageData) {
    def result = [removed: [], made: []]
    def groups = objects.groupBy { [it.getParent(), it.getPathClass(), ImagePlane.getPlane(it.getROI())] }
    groups.each { key, members ->
        def (parent, pathClass, plane) = key
        if (members.collectMany(conceptsOf).unique().size() < 2)
            return  // one concept only: its outlines are as the segmentation made them
        def union = GeometryTools.union(members.collect { it.getROI().getGeometry() })
        def parts = (0..<union.getNumGeometries()).collect { union.getGeometryN(it) }
        def tree = new STRtree()
        parts.each { tree.insert(it.getEnvelopeInternal(), [part: it, prepared: PreparedGeometryFactory.prepare(it)]) }
        def membersOf = members.groupBy { member ->
            def point = member.getROI().getGeometry().getInteriorPoint()
            tree.query(point.getEnvelopeInternal()).find { it.prepared.covers(point) }?.part
        }
        membersOf.findAll { part, together -> part != null && together.size() > 1 }.each { part, together ->
            result.made << unite(together, part, pathClass, plane, conceptsOf, imageData)
            result.removed.addAll(together)
        }
    }
    result
}

// One annotation from several: areas add up, other measurements are means weighted by area.
def unite(members, geometry, pathClass, plane, conceptsOf, imageData) {
    def object = PathObjects.createAnnotationObject(GeometryTools.geometryToROI(geometry, plane), pathClass)
    object.getMetadata().putAll(members[0].getMetadata())
    def concepts = members.collectMany(conceptsOf).unique().sort { it.toInteger() }
    object.getMetadata()["conceptseg.concept"] = concepts.join(",")
    object.setLocked(members.every { it.isLocked() })
    def calibration = imageData.getServer().getPixelCalibration()
    def weights = members.collect { it.getROI().getArea() }
    def list = object.getMeasurementList()
    def measured = members.collect { it.getMeasurementList().asMap().keySet() as Set }.inject { a, b -> a.intersect(b) }
    measured.sort().each { name ->
        def values = members.collect { it.getMeasurementList().get(name) }
        def value = (0..<values.size()).sum { values[it] * weights[it] } / weights.sum()
        if (name.startsWith("Area"))
            value = values.sum()
        else if (name == "Perimeter µm" && calibration.hasPixelSizeMicrons())
            value = object.getROI()
                .getScaledLength(calibration.getPixelWidthMicrons(), calibration.getPixelHeightMicrons())
        list.put(name, value as double)
    }
    list.close()
    [object: object, parent: members[0].getParent(), inside: members.collectMany { it.getChildObjects() }]
}

// To the log, and as a notification if the open window shows this image.
def say(text) {
    println text
    if (getQuPath() != null && getCurrentViewer()?.getImageData() == getCurrentImageData())
        Dialogs.showInfoNotification("ConceptSeg", text.toString())
}

// The table of the menu item: one row per concept. Returns [names, colours, hidden], null if cancelled.
def ask(own, conceptsOf) {
    def pane = new GridPane()
    pane.setHgap(8)
    pane.setVgap(4)
    ["Concept", "Area %", "Name (same name = merged)", "Colour", "Hide"].eachWithIndex { text, column ->
        pane.add(new Label(text), column, 0)
    }
    def classes = getQuPath().getAvailablePathClasses().collect { it.toString() }
    def overlay = getCurrentViewer().getOverlayOptions()
    def total = own.sum { it.getROI().getArea() }
    def fxColour = { ColorTools.with { c -> Color.rgb(c.red(it), c.green(it), c.blue(it)) } }
    def rows = []
    def groups = own.groupBy { conceptsOf(it).join(",") }
    groups.keySet().sort { it.split(",")[0].toInteger() }.eachWithIndex { concepts, index ->
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
        [new Label(concepts), new Label(percent), name, colour, hide].eachWithIndex { node, column ->
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
    rows.each { row ->
        def name = row.name.getEditor().getText().trim()
        if (name && name != row.old)
            row.concepts.split(",").each { names[it.toInteger()] = name }
        def c = row.colour.getValue()
        if (c != row.first)
            colours[name ?: row.old] = [c.getRed(), c.getGreen(), c.getBlue()].collect { Math.round(it * 255) as int }
        if (row.hide.isSelected())
            hidden << (name ?: row.old)
        else
            overlay.setPathClassHidden(PathClass.fromString(name ?: row.old), false)
    }
    [names, colours, hidden]
}
