package io.github.conceptseg.client;

import io.github.conceptseg.v1.LabelMapRows;
import io.github.conceptseg.v1.PolygonBatch;
import io.github.conceptseg.v1.SegmentSummary;
import java.util.List;

/**
 * A complete answer of the server.
 *
 * @param summary what was done
 * @param polygons all polygons
 * @param labelMap the label map's rows, empty unless asked for
 */
public record SegmentOutcome(SegmentSummary summary, List<PolygonBatch> polygons, List<LabelMapRows> labelMap) {
}
