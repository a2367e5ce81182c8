/*
 * ConceptSeg: remove results
 *
 * What it does
 *   Removes the annotations that ConceptSeg made, and nothing else. What you drew or detected stays, also where it
 *   lies inside a ConceptSeg annotation. Needs no server.
 *
 * How to use
 *   1. Open an image. To clean only some annotations or TMA cores, select them; with no selection, all results go.
 *   2. Extensions > ConceptSeg > Remove results, or Run in the script editor, or Run > Run for project.
 *   Undo (Ctrl+Z) brings them back, as long as QuPath keeps undo for this image.
 */

// ---------- Settings ----------

// Only results inside the selected annotations or TMA cores. Without a selection: all results of the image.
def onlyInSelection = true

// Only results with these class names, for example ["Concept 03", "Ignore*"]; [] for all.
def onlyClasses = []

// ---------- Script ----------

def imageData = getCurrentImageData()
if (imageData == null) {
    println "No image is open: open one first."
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
    println "Removed nothing: no ConceptSeg results ${selected && onlyInSelection ? 'in the selection' : 'in this image'}."
    return
}

def ownSet = own as Set
resetSelection()
def touched = new LinkedHashSet()
own.groupBy { it.getParent() }.each { parent, objects ->
    // What others put inside our annotations moves up to their parent.
    def kept = objects.collectMany { it.getChildObjects().findAll { child -> !(child in ownSet) } }
    parent.removeChildObjects(objects)
    parent.addChildObjects(kept)
    touched << parent
    touched.addAll(kept)
}
touched.each { parent ->
    // The parent was locked when it was segmented; without results there is nothing to protect any more.
    if (parent.getMetadata().containsKey("conceptseg.locked") && !parent.getChildObjects().any(isOurs)) {
        parent.getMetadata().remove("conceptseg.locked")
        parent.setLocked(false)
    }
}
fireHierarchy(imageData.getHierarchy(), touched)
println "Removed ${own.size()} ConceptSeg annotations from ${imageData.getServer().getMetadata().getName()}; " +
        "${getAllObjects(false).size()} other objects stay."

// One event for all changes: QuPath redraws once and keeps one undo step.
def fireHierarchy(hierarchy, objects) {
    hierarchy.fireObjectsChangedEvent(this, objects, false)
}
