/*
 * ConceptSeg: segment selected annotations
 *
 * What it does
 *   Segments what lies inside the selected annotations or TMA cores into tissue concepts. The results become their
 *   children; the selected annotations are locked. A rerun replaces the earlier results of the same annotations only.
 *
 * How to use
 *   1. Draw and select one or more annotations, or select TMA cores.
 *   2. Extensions > ConceptSeg > Segment selected annotations, or Run in the script editor.
 *   3. Name the concepts: Extensions > ConceptSeg > Name and merge concepts.
 *   In "Run for project" and QuPath script nothing is selected: there, all annotations (or else all TMA cores) are
 *   segmented, but for ConceptSeg's own.
 */

import io.github.conceptseg.ConceptSeg // "unable to resolve class": run `conceptseg qupath install`, restart QuPath
import qupath.fx.dialogs.Dialogs

// ---------- Settings ----------

// What to segment: "selected", "annotations" (all that ConceptSeg did not make) or "TMA cores".
def parents = "selected"

// Encoder and concepts; Extensions > ConceptSeg > Check server lists what there is.
def encoder = "default"
def dictionary = ""            // name of a dictionary; "" takes the encoder's own with k concepts
def k = 16                     // number of concepts, where dictionary is ""
def method = "projection"      // "projection", "learned" (concepts of this region alone), "matched", "nearest"
def nConcepts = 8              // concepts to learn, for "learned" and "matched"

// Outlines
def minAreaUm2 = 32            // smaller areas go to their neighbours, µm²; 400 for fewer, larger polygons
def minHoleAreaUm2 = 400       // smaller holes in the tissue are filled, µm²
def tolerancePx = 1.0          // how far outlines may move when simplified, analysed pixels; 0 = exact pixel outlines
def background = false         // segment background as well

// Tissue is compared with the image's own glass. Where that goes wrong:
def glassColour = null         // red, green, blue of bare glass, for example [238, 222, 236]; null finds it
def tissueStrictness = 1.0     // how much stain tissue must have: 0.5 takes half of the usual, 2 leaves pale tissue out

// µm per full-resolution pixel, where the image has none or a wrong one; null takes the image's own.
def pixelSizeUm = null

// The server reads the image's file itself, if it sees it: conceptseg serve --root FOLDER. false: QuPath sends pixels.
def readOnServer = false

// ---------- Script ----------

def imageData = getCurrentImageData()
if (imageData == null) {
    say("No image is open: open one first.")
    return
}
if (parents == "selected" && !getSelectedObjects().any { it.isAnnotation() || it.isTMACore() }) {
    if (interactive()) {
        say("Select one or more annotations or TMA cores first, or use Extensions > ConceptSeg > Segment whole image.")
        return
    }
    parents = getAnnotationObjects().any { !ConceptSeg.isResult(it) } ? "annotations" : "TMA cores"
    println "Nothing is selected in batch: segmenting all ${parents}."
}
if (parents == "annotations" && !getAnnotationObjects().any { !ConceptSeg.isResult(it) } ||
        parents == "TMA cores" && getTMACoreList().isEmpty()) {
    say("Segmented nothing: ${getCurrentImageName()} has no ${parents}.")
    return
}

def job = ConceptSeg.segment(imageData)
if (parents == "annotations")
    job.annotations()
else if (parents == "TMA cores")
    job.tmaCores()
else
    job.selected()
job.encoder(encoder).method(method).minAreaUm2(minAreaUm2).minHoleAreaUm2(minHoleAreaUm2).tolerancePx(tolerancePx)
job.background(background)
if (dictionary)
    job.dictionary(dictionary)
else if (method != "learned")
    job.k(k)
if (method in ["learned", "matched"])
    job.nConcepts(nConcepts)
if (glassColour != null)
    job.glassColour(*glassColour)
if (tissueStrictness != 1)
    job.tissueStrictness(tissueStrictness)
if (pixelSizeUm != null)
    job.pixelSizeUm(pixelSizeUm)
if (readOnServer)
    job.readOnServer(true)
def report = job.run()
println report
say("Segmented ${count(report.getParents(), 'region')} of ${getCurrentImageName()} into " +
        "${count(report.getObjects(), 'annotation')} in ${report.getSeconds().round(1)} s" +
        "${report.getRemoved() ? "; ${count(report.getRemoved(), 'earlier one')} replaced" : ''}.")

// ---------- Helpers ----------

def interactive() {
    getQuPath() != null && getCurrentViewer()?.getImageData() == getCurrentImageData()
}

// 1 annotation, 2 annotations
def count(number, noun) {
    "${number} ${noun}${number == 1 ? '' : 's'}"
}

// To the log, and as a notification if the open window shows this image.
def say(text) {
    println text
    if (interactive())
        Dialogs.showInfoNotification("ConceptSeg", text.toString())
}
