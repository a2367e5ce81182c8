package qupath.lib.gui.viewer;

import javafx.scene.layout.Pane;
import qupath.lib.roi.interfaces.ROI;

public class QuPathViewer {
    public native Pane getView();

    public native void centerROI(ROI roi);

    public native double getDownsampleFactor();

    public native void setDownsampleFactor(double downsample);
}
