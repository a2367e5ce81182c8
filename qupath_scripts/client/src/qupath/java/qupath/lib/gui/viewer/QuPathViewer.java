package qupath.lib.gui.viewer;

import java.awt.image.BufferedImage;
import javafx.scene.layout.Pane;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.interfaces.ROI;

public class QuPathViewer {
    public native Pane getView();

    public native ImageServer<BufferedImage> getServer();

    public native ImagePlane getImagePlane();

    public native void centerROI(ROI roi);

    public native double getDownsampleFactor();

    public native void setDownsampleFactor(double downsample);
}
