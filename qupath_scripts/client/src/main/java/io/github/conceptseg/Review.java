package io.github.conceptseg;

import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.client.ConceptSegException.Kind;
import io.github.conceptseg.qupath.Changes;
import io.github.conceptseg.qupath.ClassList;
import io.github.conceptseg.qupath.ConceptLabel;
import io.github.conceptseg.qupath.ProjectLabels;
import io.github.conceptseg.qupath.Results;
import io.github.conceptseg.qupath.Verdict;
import java.awt.image.BufferedImage;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeSet;
import java.util.stream.Collectors;
import qupath.lib.images.ImageData;
import qupath.lib.images.servers.PixelCalibration;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;

/**
 * A person's review of an image's results. Every method that changes something is one undo step, and returns how many
 * annotations it changed; objects that are no results are left alone.
 */
public final class Review {
    private final ImageData<BufferedImage> imageData;

    Review(ImageData<BufferedImage> imageData) {
        this.imageData = ConceptSeg.require(imageData);
    }

    /** The concepts that the image has, by dictionary and number. */
    public List<ReviewedConcept> concepts() {
        PixelCalibration calibration = imageData.getServer().getPixelCalibration();
        boolean calibrated = calibration.hasPixelSizeMicrons();
        double scale = calibrated ? calibration.getPixelWidthMicrons() * calibration.getPixelHeightMicrons() : 1;
        Map<String, Map<Optional<PathClass>, List<PathObject>>> groups = Results.of(imageData).stream()
            .filter(result -> !Results.concepts(result).isEmpty())
            .collect(Collectors.groupingBy(Results::dictionary,
                Collectors.groupingBy(result -> Optional.ofNullable(result.getPathClass()))));
        List<ReviewedConcept> concepts = new ArrayList<>();
        groups.forEach((dictionary, classes) -> {
            Map<Optional<PathClass>, Double> areas = new HashMap<>();
            classes.forEach((pathClass, members) ->
                areas.put(pathClass, members.stream().mapToDouble(member -> member.getROI().getArea()).sum()));
            double total = areas.values().stream().mapToDouble(Double::doubleValue).sum();
            classes.forEach((pathClass, members) -> concepts.add(new ReviewedConcept(dictionary, pathClass.orElse(null),
                members, areas.get(pathClass) * scale, calibrated, 100 * areas.get(pathClass) / total)));
        });
        concepts.sort(Comparator.comparing(ReviewedConcept::getDictionary)
            .thenComparing(concept -> concept.getConcepts().get(0)).thenComparing(ReviewedConcept::getClassName));
        return concepts;
    }

    /** They are what their concept stands for. */
    public int accept(Collection<PathObject> annotations) {
        return judge(annotations, Verdict.ACCEPTED);
    }

    /** They are not. They stay, with their class, and are drawn in grey. */
    public int reject(Collection<PathObject> annotations) {
        return judge(annotations, Verdict.REJECTED);
    }

    /** Take back what was said about them, but for another concept that they were given. */
    public int clear(Collection<PathObject> annotations) {
        return judge(annotations, null);
    }

    /**
     * Give annotations of one dictionary another of its concepts, and so its class; back to the one that was found, too.
     * A verdict on them goes, since it was on the concept that they had.
     */
    public int reassign(Collection<PathObject> annotations, int concept) {
        List<PathObject> results = results(annotations);
        TreeSet<String> dictionaries = results.stream().map(Results::dictionary)
            .collect(Collectors.toCollection(TreeSet::new));
        if (dictionaries.size() > 1) {
            throw refused("These annotations belong to several dictionaries (" + String.join(", ", dictionaries)
                + "). Reassign those of one at a time.");
        }
        List<Integer> wanted = List.of(concept);
        List<PathObject> toChange = results.stream().filter(result -> !Results.concepts(result).equals(wanted)).toList();
        if (toChange.isEmpty()) {
            return 0;
        }
        PathClass pathClass = classOf(dictionaries.first(), concept);
        Changes changes = new Changes();
        for (PathObject result : toChange) {
            changes.classify(result, pathClass);
            changes.describe(result, Results.REASSIGNED,
                Results.foundConcepts(result).equals(wanted) ? null : Integer.toString(concept));
            Verdict.plan(result, null, changes);
        }
        changes.apply(imageData);
        ClassList.extend(List.of(pathClass));
        return toChange.size();
    }

    private int judge(Collection<PathObject> annotations, Verdict verdict) {
        List<PathObject> toChange =
            results(annotations).stream().filter(result -> Verdict.of(result) != verdict).toList();
        Changes changes = new Changes();
        toChange.forEach(result -> Verdict.plan(result, verdict, changes));
        changes.apply(imageData);
        return toChange.size();
    }

    private static List<PathObject> results(Collection<PathObject> annotations) {
        List<PathObject> results = annotations.stream().filter(Results::isResult).toList();
        if (results.isEmpty()) {
            throw refused("Select annotations that ConceptSeg made.");
        }
        return results;
    }

    /** The class that a concept has in this image, or by its name in the project. */
    private PathClass classOf(String dictionary, int concept) {
        Optional<PathClass> here = Results.of(imageData).stream()
            .filter(result -> Results.dictionary(result).equals(dictionary) && Results.concepts(result).contains(concept)
                && result.getPathClass() != null)
            .collect(Collectors.groupingBy(PathObject::getPathClass, Collectors.counting())).entrySet().stream()
            .max(Map.Entry.<PathClass, Long>comparingByValue().thenComparing(entry -> entry.getKey().toString()))
            .map(Map.Entry::getKey);
        return here.orElseGet(() -> {
            ConceptLabel label = ProjectLabels.ofOpenProject().of(dictionary).get(concept);
            if (label == null || label.className() == null) {
                throw refused("There is no concept " + concept + " of " + dictionary + " in this image, and it has no name "
                    + "in the project, so its class is not known. Name it first.");
            }
            return label.pathClass(null);
        });
    }

    private static ConceptSegException refused(String sentence) {
        return new ConceptSegException(Kind.BAD_REQUEST, sentence + " Nothing was changed.");
    }
}
