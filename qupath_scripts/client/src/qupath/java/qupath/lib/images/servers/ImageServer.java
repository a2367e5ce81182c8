package qupath.lib.images.servers;

import java.io.IOException;
import qupath.lib.regions.RegionRequest;

public interface ImageServer<T> extends AutoCloseable {
    String getPath();

    int getWidth();

    int getHeight();

    boolean isRGB();

    int nZSlices();

    int nTimepoints();

    int nResolutions();

    double getDownsampleForResolution(int level);

    ImageServerMetadata getMetadata();

    default PixelCalibration getPixelCalibration() {
        throw new AssertionError();
    }

    default ImageServerBuilder.ServerBuilder<T> getBuilder() {
        throw new AssertionError();
    }

    default T readRegion(RegionRequest request) throws IOException {
        throw new AssertionError();
    }
}
