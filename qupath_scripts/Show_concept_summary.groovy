/*
 * ConceptSeg: concept summary
 *
 * What it does
 *   Lists area, share and number of annotations per concept, for every parent annotation or TMA core and for the
 *   whole image. The share is of the segmented area that is not ignored (classes that end in *). Needs no server.
 *
 * How to use
 *   1. Open an image with ConceptSeg results.
 *   2. Extensions > ConceptSeg > Concept summary, or Run in the script editor (a table opens), or Run for project or
 *      QuPath script (the table is printed; with csvFolder set, one file per image is written).
 *   Headless, the folder can be an argument: QuPath script ... --args /path/to/folder Show_concept_summary.groovy
 */

import javafx.beans.property.ReadOnlyObjectWrapper
import javafx.scene.Scene
import javafx.scene.control.TableColumn
import javafx.scene.control.TableView
import javafx.stage.Stage
import qupath.fx.dialogs.Dialogs
import qupath.fx.utils.FXUtils
import qupath.lib.objects.classes.PathClassTools

// ---------- Settings ----------

// Folder for "IMAGE concepts.csv"; "" writes no file. In a project, a relative folder lies in the project's folder.
def csvFolder = ""

// A line for concepts of zero area has no meaning; this hides small ones as well, in µm² (px² without calibration).
def minArea = 0

// ---------- Script ----------

def imageData = getCurrentImageData()
if (imageData == null) {
    say("No image is open: open one first.")
    return
}
def name = imageData.getServer().getMetadata().getName()
def own = getAllObjects(false).findAll { it.getMetadata().containsKey("conceptseg.run") && it.hasROI() }
if (own.isEmpty()) {
    say("No ConceptSeg results in ${name}. Segment something first.")
    return
}

// Areas are measured anew, so that they are right after merging and editing, too.
def calibration = imageData.getServer().getPixelCalibration()
def calibrated = calibration.hasPixelSizeMicrons()
def unit = calibrated ? "µm^2" : "px^2"
def areaOf = { object ->
    def pixelArea = calibrated ? calibration.getPixelWidthMicrons() * calibration.getPixelHeightMicrons() : 1.0
    object.getROI().getArea() * pixelArea
}
def label = { parent, number ->
    if (parent.isRootObject())
        return "Image"
    def kind = parent.isTMACore() ? "TMA core" : parent.getPathClass() ?: "Annotation"
    parent.getName() ?: "${kind} ${number}".toString()
}

def rows = []
def addRows = { parent, objects ->
    def byClass = objects.groupBy { it.getPathClass() }
    def areas = byClass.collectEntries { k, v -> [k, v.sum { areaOf(it) }] }
    def counted = areas.findAll { !PathClassTools.isIgnoredClass(it.key) }.values().sum() ?: 0
    byClass.keySet().sort { -areas[it] }.each { pathClass ->
        def percent = PathClassTools.isIgnoredClass(pathClass) ? null : 100 * areas[pathClass] / counted
        def concept = pathClass?.toString() ?: "Unclassified"
        if (areas[pathClass] >= minArea)
            rows << [parent, concept, areas[pathClass], percent, byClass[pathClass].size()]
    }
}
def parents = own.groupBy { it.getParent() }
parents.eachWithIndex { parent, objects, index -> addRows(label(parent, index + 1), objects) }
if (parents.size() > 1)
    addRows("All", own)

def header = ["Parent", "Concept", "Area ${unit}".toString(), "Area %", "Annotations"]
def text = { row -> [row[0], row[1], String.format(Locale.ROOT, "%.1f", row[2]),
                     row[3] == null ? "" : String.format(Locale.ROOT, "%.2f", row[3]), row[4].toString()] }

def folder = args ? args[0] : csvFolder
if (folder) {
    def directory = new File(folder)
    if (!directory.isAbsolute() && getProject() != null)
        directory = new File(buildFilePath(PROJECT_BASE_DIR, folder))
    directory.mkdirs()
    // A spreadsheet takes text that begins like a formula for one; an apostrophe makes it text.
    def quote = { '"' + (it.toString() ==~ /(?s)[=+\-@\t\r\n].*/ ? "'" : "") + it.toString().replace('"', '""') + '"' }
    def file = new File(directory, name.replaceAll(/[\\\/:*?"<>|]/, "_") + " concepts.csv")
    def lines = [["Image"] + header] + rows.collect { [name] + text(it) }
    file.setText(lines.collect { it.collect(quote).join(",") }.join("\n") + "\n", "UTF-8")
    println "Wrote ${file}"
}

if (getCurrentViewer()?.getImageData() == imageData)
    FXUtils.runOnApplicationThread { showTable("Concepts: ${name}", header, rows.collect(text)) }
println header.join("\t")
rows.each { println text(it).join("\t") }
println "Summary of ${count(own.size(), 'ConceptSeg annotation')} in ${count(parents.size(), 'parent')} of ${name}."

// ---------- Helpers ----------

// A window with the table; click a column's title to sort.
def showTable(title, header, rows) {
    def table = new TableView()
    header.eachWithIndex { columnTitle, i ->
        def column = new TableColumn(columnTitle)
        column.setCellValueFactory { new ReadOnlyObjectWrapper(i < 2 ? it.getValue()[i] : number(it.getValue()[i])) }
        table.getColumns().add(column)
    }
    table.getItems().setAll(rows)
    def stage = new Stage()
    stage.setTitle(title)
    stage.initOwner(getQuPath().getStage())
    stage.setScene(new Scene(table, 640, 480))
    stage.show()
}

def number(text) {
    text ? new BigDecimal(text) : null
}

// 1 annotation, 2 annotations
def count(number, noun) {
    "${number} ${noun}${number == 1 ? '' : 's'}"
}

// To the log, and as a notification if the open window shows this image.
def say(text) {
    println text
    if (getQuPath() != null && getCurrentViewer()?.getImageData() == getCurrentImageData())
        Dialogs.showInfoNotification("ConceptSeg", text.toString())
}
