package io.github.conceptseg.qupath;

import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.client.SegmentOutcome;
import io.github.conceptseg.v1.ConceptClass;
import io.github.conceptseg.v1.ConceptPolygon;
import io.github.conceptseg.v1.ConceptSummary;
import io.github.conceptseg.v1.PolygonBatch;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.locationtech.jts.geom.Geometry;
import org.locationtech.jts.io.ParseException;
import org.locationtech.jts.io.WKBReader;
import qupath.lib.measurements.MeasurementList;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.PathObjects;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.GeometryTools;
import qupath.lib.roi.interfaces.ROI;

/** Makes QuPath's annotations of the server's polygons. */
final class ResultObjects {
    private ResultObjects() {
    }

    static List<PathObject> of(SegmentOutcome outcome, ImagePlane plane, Map<Integer, ConceptLabel> labels) {
        Map<Integer, PathClass> classes = classes(outcome, labels);
        String run = outcome.summary().getRunId();
        String dictionary = outcome.summary().getDictionary();
        List<PathObject> objects = new ArrayList<>(outcome.summary().getPolygonCount());
        for (PolygonBatch batch : outcome.polygons()) {
            List<String> measurements = batch.getMeasurementNamesList();
            // Outlines to ROIs takes most of the time, and QuPath does it in any thread.
            List<ROI> rois = IntStream.range(0, batch.getPolygonsCount()).parallel()
                .mapToObj(index -> roi(batch.getPolygons(index), plane)).toList();
            for (int index = 0; index < rois.size(); index++) {
                ConceptPolygon polygon = batch.getPolygons(index);
                PathObject object =
                    PathObjects.createAnnotationObject(rois.get(index), classes.get(polygon.getConcept()));
                measure(object, measurements, polygon);
                Map<String, String> metadata = object.getMetadata();
                metadata.put(Results.RUN, run);
                metadata.put(Results.DICTIONARY, dictionary);
                metadata.put(Results.CONCEPT, Integer.toString(polygon.getConcept()));
                object.setLocked(true);
                objects.add(object);
            }
        }
        return objects;
    }

    private static ROI roi(ConceptPolygon polygon, ImagePlane plane) {
        // QuPath's own factory keeps hundredths of a px, as its files do; an outline that this spoils stays exact.
        Geometry geometry = read(polygon, new WKBReader(GeometryTools.getDefaultFactory()));
        if (geometry.isEmpty() || !geometry.isValid()) {
            geometry = read(polygon, new WKBReader());
        }
        // QuPath takes an empty or self-crossing outline without a word and fails much later.
        if (geometry.isEmpty() || !geometry.isValid()) {
            throw invalid(polygon, null);
        }
        return GeometryTools.geometryToROI(geometry, plane);
    }

    private static Geometry read(ConceptPolygon polygon, WKBReader reader) {
        try {
            return reader.read(polygon.getWkb().toByteArray());
        } catch (ParseException error) {
            throw invalid(polygon, error);
        }
    }

    private static ConceptSegException invalid(ConceptPolygon polygon, Exception cause) {
        return new ConceptSegException(ConceptSegException.Kind.INTERNAL, "The server sent an outline of concept "
            + polygon.getConcept() + " that is not a valid area. Nothing was changed. Please report it.", cause);
    }

    private static void measure(PathObject object, List<String> names, ConceptPolygon polygon) {
        try (MeasurementList list = object.getMeasurementList()) {
            for (int i = 0; i < names.size(); i++) {
                double value = polygon.getMeasurements(i);
                if (Double.isFinite(value)) {
                    list.put(names.get(i), value);
                }
            }
        }
    }

    /** A class that QuPath knows already keeps its colour, unless a person chose another one for this project. */
    private static Map<Integer, PathClass> classes(SegmentOutcome outcome, Map<Integer, ConceptLabel> labels) {
        Map<Integer, PathClass> classes = new HashMap<>();
        for (ConceptSummary summary : outcome.summary().getConceptsList()) {
            ConceptClass given = summary.getConceptClass();
            ConceptLabel label = labels.get(given.getConcept());
            boolean labelled = label != null && label.className() != null;
            PathClass pathClass = labelled ? label.pathClass(ConceptLabel.opaque(given.getColourRgb()))
                : PathClass.fromString(given.getName(), given.getColourRgb());
            if (labelled && label.colour() != null) {
                pathClass.setColor(ConceptLabel.opaque(label.colour()));
            }
            classes.put(given.getConcept(), pathClass);
        }
        return classes;
    }
}
