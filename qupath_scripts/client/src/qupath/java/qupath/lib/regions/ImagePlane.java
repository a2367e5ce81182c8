package qupath.lib.regions;

public class ImagePlane {
    public static native ImagePlane getPlane(int z, int t);

    public native int getZ();

    public native int getT();
}
