package qupath.lib.images.servers;

public class PixelCalibration {
    public native boolean hasPixelSizeMicrons();

    public native double getAveragedPixelSizeMicrons();

    public native double getPixelWidthMicrons();

    public native double getPixelHeightMicrons();
}
