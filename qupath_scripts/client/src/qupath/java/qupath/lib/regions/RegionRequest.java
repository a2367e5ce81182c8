package qupath.lib.regions;

public class RegionRequest extends ImageRegion {
    public static native RegionRequest createInstance(
        String path, double downsample, int x, int y, int width, int height, int z, int t);
}
