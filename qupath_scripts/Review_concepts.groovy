/*
 * ConceptSeg: review concepts
 *
 * What it does
 *   In the window, opens "Review concepts": the concepts of the image, and its annotations one after the other, the
 *   least certain first, to accept, reject or reassign. With settings, in batch and headless, it judges by purity
 *   what nobody has judged yet. Needs no server.
 *
 * How to use
 *   1. Open an image with ConceptSeg results.
 *   2. Extensions > ConceptSeg > Review concepts. Buttons have keys, which their tooltips tell.
 *   Or fill in the settings below and Run, Run for project or QuPath script --save.
 */

import io.github.conceptseg.ConceptSeg // "unable to resolve class": run `conceptseg qupath install`, restart QuPath
import io.github.conceptseg.ReviewFilter
import io.github.conceptseg.window.ReviewWindow
import qupath.fx.dialogs.Dialogs

// ---------- Settings ----------

// Accept annotations that are at least this pure (measurement "Concept purity", 0 to 1); null accepts none.
def acceptFrom = null

// Reject annotations that are less pure than this; null rejects none.
def rejectBelow = null

// Only these concepts, by number or class name, for example [3, "Tumor"]; [] judges all.
def concepts = []

// ---------- Script ----------

def imageData = getCurrentImageData()
if (imageData == null) {
    say("No image is open: open one first.")
    return
}
def review = ConceptSeg.review(imageData)
if (review.concepts().isEmpty()) {
    say("Nothing to review: no ConceptSeg results in this image. Segment something first.")
    return
}
if (acceptFrom == null && rejectBelow == null && getCurrentViewer()?.getImageData() == imageData) {
    ReviewWindow.open(getQuPath())
    println "Opened the window to review ${review.concepts().size()} concepts."
    return
}
if (acceptFrom != null && rejectBelow != null && acceptFrom < rejectBelow)
    throw new IllegalArgumentException("Expected acceptFrom >= rejectBelow, got ${acceptFrom} and ${rejectBelow}.")
def purity = { it.getMeasurementList().get("Concept purity") }
def wanted = concepts.collect { it.toString() } as Set
def open = review.concepts()
    .findAll { !wanted || it.getClassName() in wanted || it.getConcepts().any { n -> n.toString() in wanted } }
    .collectMany { it.getAnnotations().findAll(ReviewFilter.OPEN.&test) }
    .findAll { !Double.isNaN(purity(it)) }
def accepted = acceptFrom == null ? [] : open.findAll { purity(it) >= acceptFrom }
def rejected = rejectBelow == null ? [] : open.findAll { purity(it) < rejectBelow }
if (accepted)
    review.accept(accepted)
if (rejected)
    review.reject(rejected)
review.concepts().each { println it }
say("Accepted ${accepted.size()} and rejected ${rejected.size()} ConceptSeg annotations.")

// ---------- Helpers ----------

// To the log, and as a notification if the open window shows this image.
def say(text) {
    println text
    if (getQuPath() != null && getCurrentViewer()?.getImageData() == getCurrentImageData())
        Dialogs.showInfoNotification("ConceptSeg", text.toString())
}
