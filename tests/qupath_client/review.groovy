// A review without a window: prints "KEY JSON" lines. The image gets a row of squares, one per entry of squares below.
import io.github.conceptseg.ConceptSeg
import io.github.conceptseg.ReviewFilter
import qupath.lib.io.GsonTools

def hierarchy = getCurrentHierarchy()
def make = { index, label, dictionary, concept, purity, area = 100 ->
    def roi = ROIs.createRectangleROI(100 * index, 0, area, 100, ImagePlane.getDefaultPlane())
    def result = PathObjects.createAnnotationObject(roi, getPathClass("Concept 0" + concept))
    result.setName(label)
    def of = [run: "run", dictionary: dictionary, concept: concept.toString()]
    of.each { key, value -> result.getMetadata().put("conceptseg." + key, value) }
    if (purity != null)
        result.getMeasurementList().put("Concept purity", purity as double)
    result
}
hierarchy.addObjects([make(0, "a", "one", 0, 0.5), make(1, "b", "one", 0, 0.2), make(2, "c", "one", 0, null),
    make(3, "d", "one", 1, 0.9), make(4, "e", "one", 2, 0.9), make(6, "small", "one", 0, 0.5, 50),
    make(8, "other", "two", 0, 0.9)])
def mine = PathObjects.createAnnotationObject(ROIs.createRectangleROI(0, 500, 9, 9, ImagePlane.getDefaultPlane()))
mine.setName("mine")
hierarchy.addObject(mine)

def say = { key, value -> println "${key} ${GsonTools.getInstance().newBuilder().serializeNulls().create().toJson(value)}" }
def named = { name -> hierarchy.getAnnotationObjects().find { it.getName() == name } }
def state = { name ->
    def of = named(name).getMetadata()
    [named(name).getPathClass().toString(), of["conceptseg.concept"], of["conceptseg.reassigned"], of["conceptseg.review"]]
}
def refused = { action ->
    try {
        action()
        null
    } catch (Exception error) {
        error.getMessage()
    }
}
def events = 0
hierarchy.addListener { events++ }
def review = ConceptSeg.review(getCurrentImageData())
def concept = { review.concepts()[0] }

say("CONCEPTS", review.concepts().collect { [it.getDictionary(), it.getConcepts(), it.getClassName(), it.getCount()] })
say("ORDER", concept().getAnnotations()*.getName())
def walk = { step, wanted -> (1..5).inject([null]) { seen, i -> seen + concept()."$step"(seen[-1], wanted) }.tail()*.getName() }
say("NEXT", walk("next", ReviewFilter.ALL))
say("PREVIOUS", walk("previous", ReviewFilter.ALL))

say("ACCEPTED", [review.accept([named("a"), named("b"), mine]), state("a"), state("b"), mine.getMetadata()])
say("AGAIN", review.accept([named("a")]))
say("OPEN", walk("next", ReviewFilter.OPEN))
say("NONE", concept().next(named("a"), ReviewFilter.REJECTED))
say("REJECTED", [review.reject([named("b")]), state("b"), named("b").getColor() != null])
say("CLEARED", [review.clear([named("b")]), state("b"), named("b").getColor() != null])
review.reject([named("b")])
say("REASSIGNED", [review.reassign([named("b"), named("d")], 1), state("b"), named("b").getColor() != null, state("d")])
say("COUNTS", review.concepts().collect { ReviewFilter.values().collect { filter -> it.count(filter) } })
say("SUMMARY", ConceptSeg.summary(getCurrentImageData()).collectEntries { [it.getClassName(), it.getConcepts()] })
say("BACK", [review.reassign([named("b")], 0), state("b")])
say("EVENTS", events)

say("NO RESULTS", refused { review.accept([mine]) })
say("UNKNOWN", refused { review.reassign([named("a")], 9) })
say("SEVERAL", refused { review.reassign([named("a"), named("other")], 1) })

// Naming: by what a concept is now; what was corrected is never joined, what was accepted only with its like.
review.clear(hierarchy.getAnnotationObjects().findAll { it != mine })
review.reassign([named("e")], 1)
review.accept([named("a"), named("b")])
ConceptSeg.name(getCurrentImageData()).dictionary("one").name(0, "Tumor").name(1, "Tumor").apply()
say("NAMED", hierarchy.getAnnotationObjects().findAll { it != mine }.collect {
    [it.getPathClass().toString(), it.getROI().getBoundsX(), it.getROI().getBoundsWidth(),
        it.getMetadata()["conceptseg.concept"], it.getMetadata()["conceptseg.review"]]
}.sort { it[1] })
