package io.github.conceptseg.qupath;

import com.google.protobuf.ByteString;
import io.github.conceptseg.v1.ImageOverview;
import io.github.conceptseg.v1.OutputRect;
import io.github.conceptseg.v1.PixelGrid;
import io.github.conceptseg.v1.Region;
import java.awt.image.BufferedImage;
import qupath.lib.images.servers.ImageServer;

/**
 * A whole image as a small picture, in which the server finds the image's glass.
 *
 * <p>As {@code conceptseg.imaging.overview} makes it of a file: of an image without small resolutions it is a mosaic.
 */
final class Overview {
    private static final int LONGEST = 512;
    private static final int PATCHES = 8;
    private static final int PATCH = LONGEST / PATCHES;
    private static final int SHRINK = 4;
    private static final double MOST_PX = 1 << 25;

    private final ImageServer<BufferedImage> server;
    private final int z;
    private final int t;

    private Overview(ImageServer<BufferedImage> server, int z, int t) {
        this.server = server;
        this.z = z;
        this.t = t;
    }

    /** The overview of a plane. */
    static ImageOverview of(ImageServer<BufferedImage> server, int z, int t) {
        double coarsest = 1;
        for (int level = 0; level < server.nResolutions(); level++) {
            coarsest = Math.max(coarsest, server.getDownsampleForResolution(level));
        }
        boolean isLarge = (double) server.getWidth() * server.getHeight() > MOST_PX * coarsest * coarsest;
        Overview overview = new Overview(server, z, t);
        return isLarge ? overview.mosaic(SHRINK * coarsest) : overview.whole();
    }

    private ImageOverview whole() {
        int width = side(server.getWidth(), LONGEST);
        int height = side(server.getHeight(), LONGEST);
        RegionPixels pixels = pixels(0, 0, server.getWidth(), server.getHeight(), width, height);
        byte[] rgb = new byte[3 * width * height];
        for (int top = 0; top < height; top += PATCH) { // in pieces, so that no read is large
            for (int left = 0; left < width; left += PATCH) {
                int right = Math.min(width, left + PATCH);
                copy(pixels, left, top, right - left, Math.min(height, top + PATCH) - top, rgb, width, left, top);
            }
        }
        return message(width, height, rgb);
    }

    private ImageOverview mosaic(double scale) {
        int columns = side(server.getWidth(), PATCHES);
        int rows = side(server.getHeight(), PATCHES);
        byte[] rgb = new byte[3 * columns * rows * PATCH * PATCH];
        for (int row = 0; row < rows; row++) {
            for (int column = 0; column < columns; column++) {
                int size = (int) Math.rint(PATCH * scale);
                int x = start(column, columns, server.getWidth(), PATCH * scale);
                int y = start(row, rows, server.getHeight(), PATCH * scale);
                copy(pixels(x, y, size, size, PATCH, PATCH), 0, 0, PATCH, PATCH, rgb, columns * PATCH, column * PATCH,
                    row * PATCH);
            }
        }
        return message(columns * PATCH, rows * PATCH, rgb);
    }

    private int side(int full, int longest) {
        double shrink = Math.max(1.0, (double) Math.max(server.getWidth(), server.getHeight()) / longest);
        return (int) Math.max(1, Math.rint(full / shrink));
    }

    private static int start(int number, int count, int full, double size) {
        return (int) Math.max(0, Math.rint((number + 0.5) * full / count - size / 2));
    }

    private RegionPixels pixels(int x, int y, int fullWidth, int fullHeight, int width, int height) {
        Region region = Region.newBuilder().setX(x).setY(y).setWidth(fullWidth).setHeight(fullHeight).setZ(z).setT(t)
            .build();
        return new RegionPixels(server,
            PixelGrid.newBuilder().setRegion(region).setWidth(width).setHeight(height).build());
    }

    private static void copy(RegionPixels from, int x, int y, int width, int height, byte[] to, int columns, int left,
            int top) {
        OutputRect rect = OutputRect.newBuilder().setX(x).setY(y).setWidth(width).setHeight(height).build();
        byte[] piece = from.read(rect).getData().toByteArray();
        for (int row = 0; row < height; row++) {
            System.arraycopy(piece, 3 * row * width, to, 3 * ((top + row) * columns + left), 3 * width);
        }
    }

    private ImageOverview message(int width, int height, byte[] rgb) {
        return ImageOverview.newBuilder().setImageWidth(server.getWidth()).setImageHeight(server.getHeight())
            .setWidth(width).setHeight(height).setRgb(ByteString.copyFrom(rgb)).build();
    }
}
