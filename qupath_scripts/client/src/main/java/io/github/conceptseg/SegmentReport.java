package io.github.conceptseg;

import io.github.conceptseg.v1.SegmentSummary;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What a segmentation did. */
public final class SegmentReport {
    private static final Logger LOG = LoggerFactory.getLogger("ConceptSeg");

    private final List<String> lines = new ArrayList<>();
    private final List<String> runIds = new ArrayList<>();
    private int parents;
    private int objects;
    private int removed;
    private double seconds;
    private double serverSeconds;

    SegmentReport() {
    }

    void parent(String label, int polygons, SegmentSummary summary, double ofServer) {
        parents++;
        serverSeconds += ofServer;
        runIds.add(summary.getRunId());
        long concepts = summary.getConceptsList().stream().filter(concept -> concept.getPolygons() > 0).count();
        lines.add(polygons == 0
            ? label + ": no tissue found, nothing added. background(true) segments it all the same."
            : String.format(Locale.ROOT, "%s: %s of %s (%s, %s, %.3g µm/px)", label,
                Counted.of(polygons, "annotation"), Counted.of(concepts, "concept"), summary.getDictionary(),
                summary.getMethod(), summary.getGrid().getGridPixelSizeUm()));
        summary.getRemarksList().stream().filter(remark -> !lines.contains(remark)).forEach(lines::add);
    }

    void line(String line) {
        lines.add(line);
    }

    void finish(int added, int gone, double elapsed) {
        objects = added;
        removed = gone;
        seconds = elapsed;
        String replaced = removed > 0 ? ", " + Counted.of(removed, "earlier one") + " replaced" : "";
        lines.add(String.format(Locale.ROOT, "%s, %s added%s, %.1f s (server %.1f s)", Counted.of(parents, "region"),
            Counted.of(objects, "annotation"), replaced, seconds, serverSeconds));
    }

    void log() {
        lines.forEach(LOG::info);
    }

    /** Regions that were segmented. */
    public int getParents() {
        return parents;
    }

    /** Annotations that were made. */
    public int getObjects() {
        return objects;
    }

    /** Earlier results that were replaced. */
    public int getRemoved() {
        return removed;
    }

    /** Wall time, everything included. */
    public double getSeconds() {
        return seconds;
    }

    /** What of it the server's work took. */
    public double getServerSeconds() {
        return serverSeconds;
    }

    /** One per region. */
    public List<String> getRunIds() {
        return List.copyOf(runIds);
    }

    /** For people. */
    public List<String> getLines() {
        return List.copyOf(lines);
    }

    @Override
    public String toString() {
        return String.join("\n", lines);
    }
}
