// Segments a rectangle and an ellipse once with pixels sent and once with the file read by the server, then asks the
// server for what it must refuse. Arguments: an image that lies below no root of the server.
import io.github.conceptseg.ConceptSeg
import qupath.lib.images.servers.ImageServers
import qupath.lib.images.servers.RotatedImageServer

def plane = ImagePlane.getDefaultPlane()
def rois = [ROIs.createRectangleROI(600, 700, 900, 700, plane), ROIs.createEllipseROI(900.5, 1500.25, 600, 500, plane)]
def parents = rois.collect { PathObjects.createAnnotationObject(it) }

def segment = { imageData, regions, onServer ->
    imageData.getHierarchy().addObjects(regions)
    ConceptSeg.segment(imageData).parents(regions).k(16).pixelSizeUm(0.4).readOnServer(onServer).run()
    regions.collect { region ->
        ConceptSeg.results(imageData, [region]).collect { it.getPathClass().toString() + it.getROI().getGeometry().toText() }
    }
}
def refusal = { server, roi ->
    try {
        segment(new ImageData(server), [PathObjects.createAnnotationObject(roi)], true)
        "nothing was refused"
    } catch (RuntimeException error) {
        error.getMessage()
    }
}

def sent = segment(getCurrentImageData(), parents, false)
def read = segment(getCurrentImageData(), parents, true)
println "RESULTS " + sent.collect { it.size() }.join(" ")
println "SAME " + (sent == read)
println "STEP " + getCurrentImageData().getHistoryWorkflow().getLastStep().getScript().contains(".readOnServer(true)")

def server = getCurrentServer()
println "ROTATED " + refusal(new RotatedImageServer(server, RotatedImageServer.Rotation.ROTATE_180), rois[0])
println "PLANE " + refusal(server, ROIs.createRectangleROI(0, 0, 500, 500, ImagePlane.getPlane(1, 0)))
println "PATH " + refusal(ImageServers.buildServer(new File(args[0]).toURI()), rois[0])
