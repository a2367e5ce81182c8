/*
 * ConceptSeg: remove results
 *
 * What it does
 *   Removes the annotations that ConceptSeg made, and nothing else. What you drew or detected stays, also where it
 *   lies inside a ConceptSeg annotation. Parents stay locked (right-click > Annotations > Unlock). Needs no server.
 *
 * How to use
 *   1. Open an image. To clean only some annotations or TMA cores, select them; with no selection, all results go.
 *   2. Extensions > ConceptSeg > Remove results, or Run in the script editor, or Run > Run for project.
 *   Undo (Ctrl+Z) brings them back, as long as QuPath keeps undo for this image.
 */

import qupath.fx.dialogs.Dialogs
import qupath.fx.utils.FXUtils

// ---------- Settings ----------

// Only results inside the selected annotations or TMA cores. Without a selection: all results of the image.
def onlyInSelection = true

// Only results with these class names, for example ["Concept 03", "Ignore*"]; [] for all.
def onlyClasses = []

// ---------- Script ----------

def imageData = getCurrentImageData()
if (imageData == null) {
    say("No image is open: open one first.")
    return
}
def isOurs = { it.getMetadata().containsKey("conceptseg.run") }

def own = getAllObjects(false).findAll(isOurs)
def selected = getSelectedObjects() as Set
if (onlyInSelection && selected)
    own = own.findAll { it in selected || it.getParent() in selected }
if (onlyClasses)
    own = own.findAll { it.getPathClass()?.toString() in onlyClasses }
if (own.isEmpty()) {
    say("Removed nothing: no ConceptSeg results ${selected && onlyInSelection ? 'in the selection' : 'in this image'}.")
    return
}

def ownSet = own as Set
resetSelection()
def remove = {
    def touched = new LinkedHashSet()
    own.groupBy { it.getParent() }.each { parent, objects ->
        // What others put inside our annotations moves up to their parent.
        def kept = objects.collectMany { it.getChildObjects().findAll { child -> !(child in ownSet) } }
        parent.removeChildObjects(objects)
        parent.addChildObjects(kept)
        touched << parent
        touched.addAll(kept)
    }
    // One event for all changes: QuPath redraws once and keeps one undo step.
    imageData.getHierarchy().fireObjectsChangedEvent(this, touched, false)
}
if (getQuPath() == null)
    remove()
else
    FXUtils.runOnApplicationThread(remove)
def others = getAllObjects(false).size()
say("Removed ${count(own.size(), 'ConceptSeg annotation')} from ${imageData.getServer().getMetadata().getName()}; " +
        "${count(others, 'other object')} ${others == 1 ? 'stays' : 'stay'}.")

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
