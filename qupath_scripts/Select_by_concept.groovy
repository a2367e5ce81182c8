/*
 * ConceptSeg: select by concept
 *
 * What it does
 *   Selects all ConceptSeg annotations of the concepts you choose. Needs no server.
 *
 * How to use
 *   1. Either select one or more ConceptSeg annotations: all others of the same concepts join the selection.
 *      Or name the concepts in the settings below (in the window, you are asked if you do neither).
 *   2. Extensions > ConceptSeg > Select by concept, or Run in the script editor.
 *   Headless, concepts can be arguments: QuPath script ... --args "Tumor" --args "Concept 03" Select_by_concept.groovy
 */

import qupath.fx.dialogs.Dialogs

// ---------- Settings ----------

// Class names or concept numbers, for example ["Tumor", 3]; [] takes the classes of what is selected.
def concepts = []

// Only inside the annotations or TMA cores that are selected together with them.
def onlyInSelectedParents = false

// ---------- Script ----------

def imageData = getCurrentImageData()
if (imageData == null) {
    say("No image is open: open one first.")
    return
}
def own = getAllObjects(false).findAll { it.getMetadata().containsKey("conceptseg.run") }
if (own.isEmpty()) {
    say("Nothing to select: no ConceptSeg results in this image. Segment something first.")
    return
}
def classOf = { it.getPathClass()?.toString() ?: "Unclassified" }
def ownSet = own as Set
def selected = getSelectedObjects()

def wanted = (args ? args as List : concepts).collect { it.toString() } as Set
if (!wanted)
    wanted = selected.findAll { it in ownSet }.collect(classOf) as Set
def viewer = getCurrentViewer()
if (!wanted && viewer?.getImageData() == imageData) {
    def names = own.collect(classOf).unique().sort()
    def chosen = Dialogs.showChoiceDialog("Select by concept", "Concept", names, names[0])
    if (chosen == null)
        return
    wanted = [chosen] as Set
}
if (!wanted) {
    println "Selected nothing: name concepts in the settings, for example concepts = [\"Concept 03\"]. " +
            "This image has ${own.collect(classOf).unique().sort().join(', ')}."
    return
}

// The concept that a person gave it in a review, else those that were found.
def conceptsOf = { (it.getMetadata()["conceptseg.reassigned"] ?: it.getMetadata()["conceptseg.concept"]).split(",") }
def found = own.findAll { classOf(it) in wanted || conceptsOf(it).any { concept -> concept in wanted } }
def parents = selected.findAll { !(it in ownSet) } as Set
if (onlyInSelectedParents && parents)
    found = found.findAll { it.getParent() in parents }
selectObjects(found)
say("Selected ${found.size()} of ${count(own.size(), 'ConceptSeg annotation')}: ${wanted.sort().join(', ')}.")

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
