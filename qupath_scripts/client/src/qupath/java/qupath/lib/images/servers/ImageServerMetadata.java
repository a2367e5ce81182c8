package qupath.lib.images.servers;

public class ImageServerMetadata {
    public native String getName();

    public native ImageResolutionLevel getLevel(int level);

    public static class ImageResolutionLevel {
        public native int getWidth();

        public native int getHeight();
    }
}
