/*
 * ConceptSeg: learn concepts from selection
 *
 * What it does
 *   Learns a concept dictionary from the tissue inside the selected annotations or TMA cores. The server keeps it;
 *   the segmentation scripts use it by its name, on this image and on others.
 *
 * How to use
 *   1. Select annotations that show all the tissue you want told apart, the more the better.
 *   2. Extensions > ConceptSeg > Learn concepts from selection, or Run in the script editor.
 *   3. Put the name that is shown into the setting "dictionary" of Segment_selected_annotations.groovy.
 *   In QuPath script nothing is selected: there, all annotations are used, but for ConceptSeg's own.
 */

import io.github.conceptseg.ConceptSeg // "unable to resolve class": run `conceptseg qupath install`, restart QuPath
import qupath.fx.dialogs.Dialogs

// ---------- Settings ----------

// Name of the dictionary, to which the number of concepts is added (NAME-k16): letters, digits, ".", "_", "-".
// "" asks in the window and takes the image's name in batch.
def name = ""

def ks = [16]                  // numbers of concepts; one dictionary each
def encoder = "default"        // Extensions > ConceptSeg > Check server lists what there is
def seed = 0                   // the same seed, encoder and regions give the same dictionary
def tokensPerRegion = 2000     // at most so many samples per annotation
def wholeImage = false         // true learns from the whole image instead of the selection
def overwrite = false          // true replaces a dictionary of the same name

// Only tissue is learned, which is compared with the image's own glass. Where that goes wrong:
def glassColour = null         // red, green, blue of bare glass, for example [238, 222, 236]; null finds it
def tissueStrictness = 1.0     // how much stain tissue must have: 0.5 takes half of the usual, 2 leaves pale tissue out

// µm per full-resolution pixel, where the image has none or a wrong one; null takes the image's own.
def pixelSizeUm = null

// ---------- Script ----------

def imageData = getCurrentImageData()
if (imageData == null) {
    say("No image is open: open one first.")
    return
}
def job = ConceptSeg.learn(imageData)
if (wholeImage)
    job.wholeImage()
else if (getSelectedObjects().any { it.isAnnotation() || it.isTMACore() })
    job.selected()
else if (!interactive() && getAnnotationObjects().any { !ConceptSeg.isResult(it) })
    job.annotations()
else {
    say("Learned nothing: select one or more annotations or TMA cores first, or set wholeImage = true in the script.")
    return
}
if (!name) {
    name = getCurrentImageNameWithoutExtension().replaceAll(/[^A-Za-z0-9._-]+/, "-").take(50)
    if (interactive())
        name = Dialogs.showInputDialog("Learn concepts", "Name of the dictionary", name)
    if (!name)
        return
}
job.encoder(encoder).ks(ks).seed(seed).tokensPerRegion(tokensPerRegion).name(name).overwrite(overwrite)
if (glassColour != null)
    job.glassColour(*glassColour)
if (tissueStrictness != 1)
    job.tissueStrictness(tissueStrictness)
if (pixelSizeUm != null)
    job.pixelSizeUm(pixelSizeUm)
def report = job.run()
println report
say("Learned ${report.getNames().join(', ')}. To use it, set dictionary = \"${report.getNames()[0]}\" in the " +
        "settings of the segmentation script.")

// ---------- Helpers ----------

def interactive() {
    getQuPath() != null && getCurrentViewer()?.getImageData() == getCurrentImageData()
}

// To the log, and as a notification if the open window shows this image.
def say(text) {
    println text
    if (interactive())
        Dialogs.showInfoNotification("ConceptSeg", text.toString())
}
