package io.github.conceptseg.qupath;

import com.google.protobuf.UnsafeByteOperations;
import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.v1.OutputRect;
import io.github.conceptseg.v1.PixelEncoding;
import io.github.conceptseg.v1.PixelGrid;
import io.github.conceptseg.v1.PixelTile;
import java.awt.image.BufferedImage;
import java.awt.image.DataBufferInt;
import java.io.IOException;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.regions.RegionRequest;

/**
 * The output pixels of a region, read through QuPath's image server.
 *
 * <p>QuPath reads whole pixels of one of the image's resolutions; what lies between resolutions is computed here,
 * because QuPath's own scaling depends on where a request starts.
 */
final class RegionPixels {
    /** As on the server: a resolution up to 1 % coarser than asked still serves. */
    private static final double LEVEL_TOLERANCE = 1.01;

    private final ImageServer<BufferedImage> server;
    private final PixelGrid grid;
    private final double scaleX;
    private final double scaleY;
    private final double downsample;
    private final int levelWidth;
    private final int levelHeight;

    RegionPixels(ImageServer<BufferedImage> server, PixelGrid grid) {
        this.server = server;
        this.grid = grid;
        scaleX = (double) grid.getRegion().getWidth() / grid.getWidth();
        scaleY = (double) grid.getRegion().getHeight() / grid.getHeight();
        int level = chooseLevel();
        downsample = level < 0 ? 1 : server.getDownsampleForResolution(level);
        levelWidth = level < 0 ? server.getWidth() : server.getMetadata().getLevel(level).getWidth();
        levelHeight = level < 0 ? server.getHeight() : server.getMetadata().getLevel(level).getHeight();
    }

    /** The coarsest resolution that is not coarser than asked and begins every pixel at a whole full-resolution px. */
    private int chooseLevel() {
        int best = -1;
        for (int level = 0; level < server.nResolutions(); level++) {
            double candidate = server.getDownsampleForResolution(level);
            boolean fits = candidate <= LEVEL_TOLERANCE * Math.min(scaleX, scaleY);
            if (fits && candidate == Math.rint(candidate)
                    && (best < 0 || candidate > server.getDownsampleForResolution(best))) {
                best = level;
            }
        }
        return best;
    }

    /** One tile of the window, uncompressed. */
    PixelTile read(OutputRect rect) {
        byte[] rgb = readRgb(rect);
        return PixelTile.newBuilder()
            .setRect(rect)
            .setEncoding(PixelEncoding.PIXEL_ENCODING_RAW_RGB)
            .setData(UnsafeByteOperations.unsafeWrap(rgb))
            .build();
    }

    private byte[] readRgb(OutputRect rect) {
        OutputAxis columns = OutputAxis.of(
            downsample, levelWidth, grid.getRegion().getX() + rect.getX() * scaleX, scaleX, rect.getWidth());
        OutputAxis rows = OutputAxis.of(
            downsample, levelHeight, grid.getRegion().getY() + rect.getY() * scaleY, scaleY, rect.getHeight());
        byte[] level = readLevel(columns.first(), rows.first(), columns.end(), rows.end());
        return columns.isCopy() && rows.isCopy() ? level : AreaMean.resample(level, columns, rows);
    }

    private byte[] readLevel(int left, int top, int right, int bottom) {
        int x = (int) Math.round(left * downsample);
        int y = (int) Math.round(top * downsample);
        int width = (int) Math.round((right - left) * downsample);
        int height = (int) Math.round((bottom - top) * downsample);
        RegionRequest request = RegionRequest.createInstance(server.getPath(), downsample, x, y, width, height,
            grid.getRegion().getZ(), grid.getRegion().getT());
        BufferedImage image;
        try {
            image = server.readRegion(request);
        } catch (IOException error) {
            throw unreadable(x, y, width, height, error);
        }
        if (image == null) {
            throw unreadable(x, y, width, height, null);
        }
        return rgb(image, right - left, bottom - top);
    }

    private ConceptSegException unreadable(int x, int y, int width, int height, IOException cause) {
        return new ConceptSegException(ConceptSegException.Kind.BAD_REQUEST, "QuPath cannot read the pixels " + x + ","
            + y + "," + width + "," + height + " (x, y, width, height) of " + server.getMetadata().getName()
            + (cause == null ? "" : " (" + cause.getMessage() + ")")
            + ". Check that the file is still there and shows in QuPath's viewer.", cause);
    }

    /** Red, green, blue of an image; where it is a px short, its last row or column is repeated. */
    private static byte[] rgb(BufferedImage image, int width, int height) {
        int stride = image.getWidth();
        boolean packed = (image.getType() == BufferedImage.TYPE_INT_RGB || image.getType() == BufferedImage.TYPE_INT_ARGB)
            && image.getRaster().getDataBuffer() instanceof DataBufferInt buffer
            && buffer.getData().length == stride * image.getHeight();
        int[] pixels = packed
            ? ((DataBufferInt) image.getRaster().getDataBuffer()).getData()
            : image.getRGB(0, 0, stride, image.getHeight(), null, 0, stride);
        byte[] rgb = new byte[3 * width * height];
        int to = 0;
        for (int row = 0; row < height; row++) {
            int from = Math.min(row, image.getHeight() - 1) * stride;
            for (int column = 0; column < width; column++) {
                int pixel = pixels[from + Math.min(column, stride - 1)];
                rgb[to++] = (byte) (pixel >> 16);
                rgb[to++] = (byte) (pixel >> 8);
                rgb[to++] = (byte) pixel;
            }
        }
        return rgb;
    }
}
