/*
 * ConceptSeg: segment whole image
 *
 * What it does
 *   Segments all tissue of the image into concepts. The results lie directly in the image, beside your annotations.
 *   A rerun replaces the earlier results of the whole image only. Of a z-stack, the slice that the viewer shows is
 *   segmented; in scripts without a viewer, the middle one.
 *
 * How to use
 *   1. Open an image. On a large slide, try the settings on a few annotations first: this can take long.
 *   2. Extensions > ConceptSeg > Segment whole image, or Run in the script editor, Run for project, or QuPath script.
 *   3. Name the concepts: Extensions > ConceptSeg > Name and merge concepts.
 */

import io.github.conceptseg.ConceptSeg // "unable to resolve class": run `conceptseg qupath install`, restart QuPath
import qupath.fx.dialogs.Dialogs

// ---------- Settings ----------

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
def job = ConceptSeg.segment(imageData).wholeImage()
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
say("Segmented ${getCurrentImageName()} into ${count(report.getObjects(), 'annotation')} " +
        "in ${report.getSeconds().round(1)} s" +
        "${report.getRemoved() ? "; ${count(report.getRemoved(), 'earlier one')} replaced" : ''}.")

// ---------- Helpers ----------

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
