package io.github.conceptseg;

import io.github.conceptseg.qupath.Results;
import java.util.Comparator;
import java.util.List;
import java.util.function.Predicate;
import java.util.stream.Collectors;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;

/** A concept of an image as it is now: several concepts of a dictionary that share a class are one. */
public final class ReviewedConcept {
    private static final Comparator<PathObject> LEAST_CERTAIN_FIRST = Comparator
        .<PathObject>comparingDouble(Results::purity) // NaN comes last
        .thenComparing(Comparator.<PathObject>comparingDouble(result -> result.getROI().getArea()).reversed())
        .thenComparing(PathObject::getID);

    private final String dictionary;
    private final List<Integer> concepts;
    private final PathClass pathClass;
    private final List<PathObject> members;
    private final double areaUm2;
    private final boolean calibrated;
    private final double percent;

    ReviewedConcept(String dictionary, PathClass pathClass, List<PathObject> members, double areaUm2, boolean calibrated,
            double percent) {
        this.dictionary = dictionary;
        this.pathClass = pathClass;
        this.members = members;
        this.areaUm2 = areaUm2;
        this.calibrated = calibrated;
        this.percent = percent;
        concepts = members.stream().flatMap(member -> Results.concepts(member).stream()).distinct().sorted().toList();
    }

    /** Its dictionary. */
    public String getDictionary() {
        return dictionary;
    }

    /** Its number in the dictionary; several if they share the class. */
    public List<Integer> getConcepts() {
        return concepts;
    }

    /** Its class; null without one. */
    public PathClass getPathClass() {
        return pathClass;
    }

    /** Name of its class. */
    public String getClassName() {
        return pathClass == null ? "Unclassified" : pathClass.toString();
    }

    /** How many annotations it has. */
    public int getCount() {
        return members.size();
    }

    /** How many of its annotations pass a filter. */
    public int count(ReviewFilter filter) {
        return (int) members.stream().filter(filter).count();
    }

    /** Area in µm²; in px² if not {@link #isCalibrated()}. */
    public double getAreaUm2() {
        return areaUm2;
    }

    /** Whether the image has a pixel size. */
    public boolean isCalibrated() {
        return calibrated;
    }

    /** Share of the area of all results of its dictionary, in %. */
    public double getPercent() {
        return percent;
    }

    /** Its annotations in the order of review: the least pure first. */
    public List<PathObject> getAnnotations() {
        return members.stream().sorted(LEAST_CERTAIN_FIRST).toList();
    }

    /** The next one in the order of review, round to the first after the last; null if none is wanted. */
    public PathObject next(PathObject current, Predicate<PathObject> wanted) {
        return step(current, wanted, 1);
    }

    /** The one before. */
    public PathObject previous(PathObject current, Predicate<PathObject> wanted) {
        return step(current, wanted, -1);
    }

    private PathObject step(PathObject current, Predicate<PathObject> wanted, int direction) {
        List<PathObject> order = getAnnotations();
        int found = order.indexOf(current);
        int start = found < 0 && direction < 0 ? order.size() : found;
        for (int steps = 1; steps <= order.size(); steps++) {
            PathObject candidate = order.get(Math.floorMod(start + direction * steps, order.size()));
            if (wanted.test(candidate)) {
                return candidate;
            }
        }
        return null;
    }

    @Override
    public String toString() {
        String numbers = concepts.stream().map(String::valueOf).collect(Collectors.joining(","));
        return getClassName() + " (" + dictionary + " " + numbers + "): " + Counted.of(getCount(), "annotation") + ", "
            + count(ReviewFilter.ACCEPTED) + " accepted, " + count(ReviewFilter.REJECTED) + " rejected, "
            + count(ReviewFilter.REASSIGNED) + " reassigned from others";
    }
}
