package io.github.conceptseg.qupath;

import com.google.protobuf.ByteString;
import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.v1.Region;
import org.locationtech.jts.geom.Geometry;
import org.locationtech.jts.io.ByteOrderValues;
import org.locationtech.jts.io.WKBWriter;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.objects.PathObject;
import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.interfaces.ROI;

/**
 * The part of an image that a parent covers.
 *
 * @param region its bounding box inside the image, in full-resolution px
 * @param clip its shape as WKB; empty where it fills the bounding box
 * @param plane z and t of its objects
 * @param label what messages call it
 */
record ParentRegion(Region region, ByteString clip, ImagePlane plane, String label) {

    static ParentRegion of(PathObject parent, ImageServer<?> server) {
        if (parent.isRootObject()) {
            ImagePlane plane = Gui.planeShown(server);
            Region whole = Region.newBuilder().setWidth(server.getWidth()).setHeight(server.getHeight())
                .setZ(plane.getZ()).setT(plane.getT()).build();
            return new ParentRegion(whole, ByteString.EMPTY, plane, "Image");
        }
        ROI roi = parent.getROI();
        String label = DisplayName.of(parent);
        int x = (int) Math.max(0, Math.floor(roi.getBoundsX()));
        int y = (int) Math.max(0, Math.floor(roi.getBoundsY()));
        int right = (int) Math.min(server.getWidth(), Math.ceil(roi.getBoundsX() + roi.getBoundsWidth()));
        int bottom = (int) Math.min(server.getHeight(), Math.ceil(roi.getBoundsY() + roi.getBoundsHeight()));
        if (right <= x || bottom <= y) {
            throw new ConceptSegException(ConceptSegException.Kind.BAD_REQUEST,
                label + " lies outside the image. Move it onto the tissue, or delete it.");
        }
        ImagePlane plane = roi.getImagePlane();
        Region region = Region.newBuilder().setX(x).setY(y).setWidth(right - x).setHeight(bottom - y)
            .setZ(plane.getZ()).setT(plane.getT()).build();
        Geometry shape = roi.getGeometry();
        // Nothing to cut where the shape is the bounding box itself.
        boolean fills = shape.isRectangle() && shape.getArea() == (double) region.getWidth() * region.getHeight();
        if (!fills && !shape.isValid()) {
            throw new ConceptSegException(ConceptSegException.Kind.BAD_REQUEST, label
                + " has an outline that crosses itself. Correct it with the brush or wand, or draw it again.");
        }
        ByteString clip = fills ? ByteString.EMPTY
            : ByteString.copyFrom(new WKBWriter(2, ByteOrderValues.LITTLE_ENDIAN).write(shape));
        return new ParentRegion(region, clip, plane, label);
    }
}
