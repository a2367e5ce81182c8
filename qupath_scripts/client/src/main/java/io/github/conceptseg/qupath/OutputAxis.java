package io.github.conceptseg.qupath;

/**
 * Edges of output pixels along one axis of one resolution of an image.
 *
 * <p>An output pixel is the area-weighted mean of the level pixels that it covers, the same rule as on the server when
 * it reads a file itself, so that both see the same pixels. Edges are rounded to 1/4096 level px, which makes a pixel
 * independent of the block that it is read in.
 */
final class OutputAxis {
    static final int QUANTUM = 4096;

    private final long[] edges;
    private final long high;

    private OutputAxis(long[] edges, long high) {
        this.edges = edges;
        this.high = high;
    }

    /**
     * The axis of a block.
     *
     * @param downsample full-resolution px per level px
     * @param levelLength px of the level
     * @param start the block's edge in full-resolution px
     * @param scale full-resolution px per output px
     * @param count output px
     */
    static OutputAxis of(double downsample, int levelLength, double start, double scale, int count) {
        long[] edges = new long[count + 1];
        for (int i = 0; i <= count; i++) {
            edges[i] = (long) Math.rint((start + i * scale) / downsample * QUANTUM);
        }
        return new OutputAxis(edges, (long) levelLength * QUANTUM);
    }

    int count() {
        return edges.length - 1;
    }

    /** First level px that is needed. */
    int first() {
        return (int) Math.min(Math.max(Math.floorDiv(edges[0], QUANTUM), 0), high / QUANTUM - 1);
    }

    /** End of the level px that are needed. */
    int end() {
        long end = Math.min(Math.max(-Math.floorDiv(-edges[count()], QUANTUM), 1), high / QUANTUM);
        return (int) Math.max(end, first() + 1);
    }

    /** Whether every output pixel is exactly one level pixel inside the level. */
    boolean isCopy() {
        if (edges[0] % QUANTUM != 0 || edges[0] < 0 || edges[count()] > high) {
            return false;
        }
        for (int i = 0; i < count(); i++) {
            if (edges[i + 1] - edges[i] != QUANTUM) {
                return false;
            }
        }
        return true;
    }

    /** First level px of an output px, relative to {@link #first()}. */
    int firstTap(int index) {
        return (int) (left(index) / QUANTUM) - first();
    }

    /** The shares of the level px from {@link #firstTap} on. */
    float[] weights(int index) {
        long left = left(index);
        long right = right(index);
        long pixel = left / QUANTUM;
        int count = (int) (-Math.floorDiv(-right, QUANTUM) - pixel);
        float[] weights = new float[count];
        for (int k = 0; k < count; k++) {
            long start = (pixel + k) * QUANTUM;
            long covered = Math.min(right, start + QUANTUM) - Math.max(left, start);
            weights[k] = (float) (Math.max(covered, 0) / (double) (right - left));
        }
        return weights;
    }

    private long left(int index) {
        long left = clamp(edges[index]);
        return clamp(edges[index + 1]) <= left ? Math.min(left, high - 1) : left;
    }

    private long right(int index) {
        long left = clamp(edges[index]);
        long right = clamp(edges[index + 1]);
        return right <= left ? left(index) + 1 : right;
    }

    private long clamp(long edge) {
        return Math.min(Math.max(edge, 0), high);
    }
}
