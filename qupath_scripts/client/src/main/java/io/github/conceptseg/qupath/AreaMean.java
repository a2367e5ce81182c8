package io.github.conceptseg.qupath;

/** Separable area means of RGB pixels. */
final class AreaMean {
    private AreaMean() {
    }

    /**
     * Resample a block.
     *
     * @param source red, green, blue, row by row: (rows.end() - rows.first()) × (columns.end() - columns.first())
     * @return red, green, blue of rows.count() × columns.count() px, rounded half up
     */
    static byte[] resample(byte[] source, OutputAxis columns, OutputAxis rows) {
        int stride = 3 * (columns.end() - columns.first());
        int width = columns.count();
        byte[] out = new byte[3 * width * rows.count()];
        int[] firstTap = new int[width];
        float[][] weights = new float[width][];
        for (int j = 0; j < width; j++) {
            firstTap[j] = 3 * columns.firstTap(j);
            weights[j] = columns.weights(j);
        }
        float[] total = new float[stride];
        int to = 0;
        for (int i = 0; i < rows.count(); i++) {
            addRows(source, stride, rows.firstTap(i), rows.weights(i), total);
            for (int j = 0; j < width; j++) {
                float red = 0.5f;
                float green = 0.5f;
                float blue = 0.5f;
                int at = firstTap[j];
                for (float weight : weights[j]) {
                    red += weight * total[at];
                    green += weight * total[at + 1];
                    blue += weight * total[at + 2];
                    at += 3;
                }
                out[to++] = (byte) (int) red;
                out[to++] = (byte) (int) green;
                out[to++] = (byte) (int) blue;
            }
        }
        return out;
    }

    private static void addRows(byte[] source, int stride, int first, float[] weights, float[] total) {
        for (int k = 0; k < weights.length; k++) {
            int row = (first + k) * stride;
            float weight = weights[k];
            if (k == 0) {
                for (int c = 0; c < stride; c++) {
                    total[c] = weight * (source[row + c] & 0xff);
                }
            } else {
                for (int c = 0; c < stride; c++) {
                    total[c] += weight * (source[row + c] & 0xff);
                }
            }
        }
    }
}
