package qupath.lib.roi.interfaces;

import org.locationtech.jts.geom.Geometry;
import qupath.lib.regions.ImagePlane;

public interface ROI {
    boolean isArea();

    boolean isEmpty();

    double getBoundsX();

    double getBoundsY();

    double getBoundsWidth();

    double getBoundsHeight();

    double getArea();

    double getScaledLength(double pixelWidth, double pixelHeight);

    String getRoiName();

    Geometry getGeometry();

    ImagePlane getImagePlane();
}
