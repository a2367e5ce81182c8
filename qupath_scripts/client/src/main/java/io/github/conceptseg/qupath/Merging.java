package io.github.conceptseg.qupath;

import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.locationtech.jts.geom.Geometry;
import org.locationtech.jts.geom.Point;
import org.locationtech.jts.geom.prep.PreparedGeometry;
import org.locationtech.jts.geom.prep.PreparedGeometryFactory;
import org.locationtech.jts.index.strtree.STRtree;
import qupath.lib.images.servers.PixelCalibration;
import qupath.lib.measurements.MeasurementList;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.PathObjects;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.GeometryTools;
import qupath.lib.roi.interfaces.ROI;

/** Makes one annotation of results that share an edge, once different concepts have the same class. */
public final class Merging {
    private static final String AREA = "Area";
    private static final String PERIMETER_UM = "Perimeter µm";

    private final PixelCalibration calibration;
    private final Function<PathObject, PathClass> classOf;

    /**
     * Merging in one image.
     *
     * @param calibration the image's pixel size
     * @param classOf the class that a result is to have
     */
    public Merging(PixelCalibration calibration, Function<PathObject, PathClass> classOf) {
        this.calibration = calibration;
        this.classOf = classOf;
    }

    /** Results of different runs stay apart, as their concepts need not mean the same, and so do accepted and others. */
    private record Group(PathObject parent, PathClass pathClass, ImagePlane plane, String run, Verdict verdict) {
    }

    /**
     * Add to the changes what is to be merged. Where a class has one concept only, its outlines stay as they are, and so
     * does what a person corrected: rejected and reassigned results say something about their own outlines.
     */
    public void plan(Collection<PathObject> results, Changes changes) {
        Map<Group, List<PathObject>> groups = results.stream()
            .filter(result -> Verdict.of(result) != Verdict.REJECTED && !Results.isReassigned(result))
            .collect(Collectors.groupingBy(
                result -> new Group(result.getParent(), classOf.apply(result), result.getROI().getImagePlane(),
                    result.getMetadata().get(Results.RUN), Verdict.of(result)),
                LinkedHashMap::new, Collectors.toList()));
        groups.forEach((group, members) -> {
            if (concepts(members).size() > 1) {
                parts(members).forEach((part, together) -> {
                    if (together.size() > 1) {
                        changes.merge(together, unite(together, part, group));
                    }
                });
            }
        });
    }

    /** The connected parts of the union, and which members each is made of. */
    private static Map<Geometry, List<PathObject>> parts(List<PathObject> members) {
        Geometry union = GeometryTools.union(members.stream().map(member -> member.getROI().getGeometry()).toList());
        STRtree tree = new STRtree();
        for (int index = 0; index < union.getNumGeometries(); index++) {
            Geometry part = union.getGeometryN(index);
            tree.insert(part.getEnvelopeInternal(), PreparedGeometryFactory.prepare(part));
        }
        Map<Geometry, List<PathObject>> parts = new LinkedHashMap<>();
        for (PathObject member : members) {
            Point inside = member.getROI().getGeometry().getInteriorPoint();
            for (Object candidate : tree.query(inside.getEnvelopeInternal())) {
                PreparedGeometry part = (PreparedGeometry) candidate;
                if (part.covers(inside)) {
                    parts.computeIfAbsent(part.getGeometry(), ignored -> new ArrayList<>()).add(member);
                    break;
                }
            }
        }
        return parts;
    }

    private PathObject unite(List<PathObject> members, Geometry shape, Group group) {
        PathObject object = PathObjects.createAnnotationObject(
            GeometryTools.geometryToROI(shape, group.plane()), group.pathClass());
        object.getMetadata().putAll(members.get(0).getMetadata());
        object.getMetadata().put(Results.CONCEPT,
            concepts(members).stream().map(String::valueOf).collect(Collectors.joining(",")));
        object.setLocked(members.stream().allMatch(PathObject::isLocked));
        try (MeasurementList list = object.getMeasurementList()) {
            TreeSet<String> names = new TreeSet<>(members.get(0).getMeasurementList().asMap().keySet());
            members.forEach(member -> names.retainAll(member.getMeasurementList().asMap().keySet()));
            names.forEach(name -> list.put(name, measurement(name, members, object.getROI())));
        }
        return object;
    }

    /** Areas add up, the perimeter is measured anew, and other values are means weighted by area. */
    private double measurement(String name, List<PathObject> members, ROI united) {
        if (name.equals(PERIMETER_UM) && calibration.hasPixelSizeMicrons()) {
            return united.getScaledLength(calibration.getPixelWidthMicrons(), calibration.getPixelHeightMicrons());
        }
        boolean sum = name.startsWith(AREA);
        double total = 0;
        double weights = 0;
        for (PathObject member : members) {
            double weight = sum ? 1 : member.getROI().getArea();
            total += weight * member.getMeasurementList().get(name);
            weights += weight;
        }
        return sum ? total : total / weights;
    }

    private static TreeSet<Integer> concepts(List<PathObject> members) {
        return members.stream().flatMap(member -> Results.concepts(member).stream())
            .collect(Collectors.toCollection(TreeSet::new));
    }
}
