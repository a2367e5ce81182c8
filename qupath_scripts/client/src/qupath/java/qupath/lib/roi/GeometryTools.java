package qupath.lib.roi;

import java.util.Collection;
import org.locationtech.jts.geom.Geometry;
import org.locationtech.jts.geom.GeometryFactory;
import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.interfaces.ROI;

public class GeometryTools {
    public static native GeometryFactory getDefaultFactory();

    public static native ROI geometryToROI(Geometry geometry, ImagePlane plane);

    public static native Geometry union(Collection<? extends Geometry> geometries);
}
