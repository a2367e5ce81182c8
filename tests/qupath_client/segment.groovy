// Segments a rectangle and an ellipse of the image, then the rectangle once more. Arguments: output folder.
import io.github.conceptseg.ConceptSeg
import qupath.lib.objects.PathObjects
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.ROIs

def plane = ImagePlane.getDefaultPlane()
def imageData = getCurrentImageData()
def rectangle = PathObjects.createAnnotationObject(ROIs.createRectangleROI(600, 700, 900, 700, plane))
def ellipse = PathObjects.createAnnotationObject(ROIs.createEllipseROI(900.5, 1500.25, 600, 500, plane))
rectangle.setName("rectangle")
ellipse.setName("ellipse")
addObjects([rectangle, ellipse])
exportObjectsToGeoJson([ellipse], args[0] + "/ellipse-outline.geojson")

def segment = { parents, pixelSizeUm ->
    ConceptSeg.segment(imageData).parents(parents).encoder("default").k(16).minAreaUm2(400).pixelSizeUm(pixelSizeUm).run()
}
def export = { parent, name ->
    exportObjectsToGeoJson(ConceptSeg.results(imageData, [parent]), args[0] + "/" + name + ".geojson", "FEATURE_COLLECTION")
}
segment([rectangle], 0.3d)
export(rectangle, "rectangle-0.3")
def mine = PathObjects.createAnnotationObject(ROIs.createRectangleROI(1000, 1000, 5, 5, plane))
rectangle.getChildObjects()[0].addChildObject(mine)
def report = segment([rectangle, ellipse], 0.499d)
export(rectangle, "rectangle-0.499")
export(ellipse, "ellipse-0.499")
println "REMOVED " + report.removed
println "OBJECTS " + report.objects
println "LOCKED " + (rectangle.isLocked() && ellipse.isLocked())
println "KEPT " + (mine.getParent() == rectangle)
println "STEPS " + imageData.getHistoryWorkflow().getSteps().count { it.getName() == "ConceptSeg: segment" }
try {
    selectObjects([])
    ConceptSeg.segment(imageData).selected().run()
} catch (RuntimeException error) {
    println "TOLD " + error.getMessage()
}
