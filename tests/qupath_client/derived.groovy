// Segments the same rectangle of rotated and cropped views of the image. Arguments: output folder; x,y,w,h to crop;
// x,y,w,h of the rectangle in every view.
import io.github.conceptseg.ConceptSeg
import qupath.lib.images.servers.RotatedImageServer.Rotation
import qupath.lib.images.servers.TransformedServerBuilder
import qupath.lib.regions.ImageRegion

def numbers = { text -> text.split(",").collect { it.toInteger() } }
def crop = ImageRegion.createInstance(*numbers(args[1]), 0, 0)
def view = { new TransformedServerBuilder(getCurrentServer()) }
def views = [
    "plain": getCurrentServer(),
    "rotated-90": view().rotate(Rotation.ROTATE_90).build(),
    "rotated-180": view().rotate(Rotation.ROTATE_180).build(),
    "rotated-270": view().rotate(Rotation.ROTATE_270).build(),
    "cropped": view().crop(crop).build(),
    "cropped-rotated-90": view().crop(crop).rotate(Rotation.ROTATE_90).build(),
]
views.each { name, server ->
    def imageData = new ImageData(server)
    def region = PathObjects.createAnnotationObject(
        ROIs.createRectangleROI(*numbers(args[2]), ImagePlane.getDefaultPlane()))
    imageData.getHierarchy().addObject(region)
    ConceptSeg.segment(imageData).parents([region]).k(16).minAreaUm2(100).pixelSizeUm(0.5).run()
    exportObjectsToGeoJson(ConceptSeg.results(imageData), "${args[0]}/${name}.geojson", "FEATURE_COLLECTION")
    println "SIZE ${name} ${server.getWidth()} ${server.getHeight()}"
}
