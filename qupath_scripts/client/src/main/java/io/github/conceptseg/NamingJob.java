package io.github.conceptseg;

import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.client.ConceptSegException.Kind;
import io.github.conceptseg.qupath.Changes;
import io.github.conceptseg.qupath.ClassList;
import io.github.conceptseg.qupath.ConceptLabel;
import io.github.conceptseg.qupath.LabelledClasses;
import io.github.conceptseg.qupath.Merging;
import io.github.conceptseg.qupath.ProjectLabels;
import io.github.conceptseg.qupath.Results;
import io.github.conceptseg.server.ServerLifecycle;
import io.github.conceptseg.v1.DictionaryInfo;
import java.awt.image.BufferedImage;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;

/** Names, merges, colours and hides concepts in an image's results; without settings, as the project remembers. */
public final class NamingJob {
    private static final String IGNORE = "Ignore*";
    private static final int MOST_TRIES = 50;

    private final ImageData<BufferedImage> imageData;
    private final Map<Integer, String> names = new TreeMap<>();
    private final Map<String, Integer> colours = new LinkedHashMap<>();
    private final Map<String, Boolean> hidden = new LinkedHashMap<>();
    private String dictionary;
    private boolean reset;
    private boolean mergeShapes = true;
    private boolean remember = true;

    NamingJob(ImageData<BufferedImage> imageData) {
        this.imageData = ConceptSeg.require(imageData);
    }

    /** Only this dictionary's concepts; needed for names if the image has results of several. */
    public NamingJob dictionary(String identifier) {
        dictionary = identifier;
        return this;
    }

    /** Call a concept something; concepts of the same name share a class, a name that ends in * is ignored. */
    public NamingJob name(int concept, String name) {
        if (concept < 0) {
            throw new ConceptSegException(Kind.BAD_REQUEST, "Expected the number of a concept, got " + concept + ".");
        }
        names.put(concept, ConceptLabel.named(name).className());
        return this;
    }

    /** Several names at once. */
    public NamingJob names(Map<Integer, String> byConcept) {
        byConcept.forEach(this::name);
        return this;
    }

    /** The colour of a class, 0xRRGGBB. */
    public NamingJob colour(String className, int rgb) {
        colours.put(className, rgb & 0xffffff);
        return this;
    }

    /** The colour of a class, 0 to 255 each. */
    public NamingJob colour(String className, int red, int green, int blue) {
        if (((red | green | blue) & ~0xff) != 0) {
            throw new ConceptSegException(Kind.BAD_REQUEST, "Expected red, green and blue from 0 to 255 for " + className
                + ", got " + red + ", " + green + ", " + blue + ".");
        }
        return colour(className, red << 16 | green << 8 | blue);
    }

    /** Several colours at once. */
    public NamingJob colours(Map<String, Integer> byClassName) {
        byClassName.forEach(this::colour);
        return this;
    }

    /** Background and artefacts: class {@code Ignore*}, which QuPath leaves out of measurements. */
    public NamingJob ignore(int... concepts) {
        return ignore(Arrays.stream(concepts).boxed().toList());
    }

    /** Background and artefacts. */
    public NamingJob ignore(Collection<Integer> concepts) {
        concepts.forEach(concept -> name(concept, IGNORE));
        return this;
    }

    /** Do not draw these classes in the window that shows the image. */
    public NamingJob hide(Collection<String> classNames) {
        classNames.forEach(className -> hidden.put(className, true));
        return this;
    }

    /** Draw these classes again. */
    public NamingJob show(Collection<String> classNames) {
        classNames.forEach(className -> hidden.put(className, false));
        return this;
    }

    /** Back to the names of the dictionary, which the server knows; names given here still count. */
    public NamingJob reset() {
        reset = true;
        return this;
    }

    /** Make one annotation of neighbours whose concepts got the same class (true). */
    public NamingJob mergeShapes(boolean neighbours) {
        mergeShapes = neighbours;
        return this;
    }

    /** Keep names and colours for the project (true). */
    public NamingJob remember(boolean keep) {
        remember = keep;
        return this;
    }

    /** Do it. */
    public NamingReport apply() {
        List<PathObject> results = results();
        Map<String, Map<Integer, ConceptLabel>> own = new HashMap<>();
        if (reset) {
            String identifier = onlyDictionary(results);
            own.put(identifier, classesOfServer(identifier));
        }
        boolean toRemember = remember && (reset || !names.isEmpty() || !colours.isEmpty());
        for (int tries = 1; tries <= MOST_TRIES; tries++) {
            ProjectLabels labels = changed(results);
            LabelledClasses classes = new LabelledClasses(results, identifier -> {
                Map<Integer, ConceptLabel> known = new HashMap<>(own.getOrDefault(identifier, Map.of()));
                known.putAll(labels.of(identifier));
                return known;
            });
            Changes changes = new Changes();
            classes.plan(changes);
            if (mergeShapes) {
                new Merging(imageData.getServer().getPixelCalibration(), classes::of).plan(classes.mergeable(), changes);
            }
            // The labels first: where they cannot be written, nothing was changed. Where somebody else changed them, all
            // that was planned goes by what is there now.
            if (!toRemember || labels.file().isEmpty() || labels.write()) {
                return done(changes, classes, toRemember ? labels : null);
            }
        }
        throw new ConceptSegException(Kind.BAD_REQUEST, "Other programs keep changing the names of this project. Nothing "
            + "was changed. Try again when they are done.");
    }

    private NamingReport done(Changes changes, LabelledClasses classes, ProjectLabels remembered) {
        changes.apply(imageData);
        ClassList.extend(classes.named());
        ClassList.hide(imageData, hidden);
        NamingReport report = new NamingReport(changes, classes.ambiguous(), results());
        if (remembered != null) {
            report.remembered(remembered.file());
        }
        report.log();
        return report;
    }

    /** What is asked for, on the labels as they are now; not written yet. */
    private ProjectLabels changed(List<PathObject> results) {
        ProjectLabels labels = ProjectLabels.ofOpenProject();
        if (reset) {
            labels.forget(onlyDictionary(results));
        }
        if (!names.isEmpty()) {
            labels.name(onlyDictionary(results), names);
        }
        colours.forEach((className, rgb) -> {
            unnamed(results, className, labels).forEach(labels::name);
            labels.colour(className, rgb);
        });
        return labels;
    }

    /** Concepts, by dictionary, that have the class without a label: a colour is kept with named concepts only. */
    private static Map<String, Map<Integer, String>> unnamed(List<PathObject> results, String className,
            ProjectLabels labels) {
        Map<String, Map<Integer, String>> found = new TreeMap<>();
        for (PathObject result : results) {
            if (className.equals(String.valueOf(result.getPathClass()))) {
                Map<Integer, String> ofDictionary =
                    found.computeIfAbsent(Results.dictionary(result), identifier -> new TreeMap<>());
                Results.concepts(result).forEach(concept -> ofDictionary.put(concept, className));
            }
        }
        found.forEach((identifier, concepts) -> concepts.keySet().removeAll(labels.of(identifier).keySet()));
        return found;
    }

    /** All results that are to be named, at least one. */
    private List<PathObject> results() {
        List<PathObject> all = Results.of(imageData);
        List<PathObject> found = dictionary == null ? all
            : all.stream().filter(result -> Results.dictionary(result).equals(dictionary)).toList();
        if (all.isEmpty()) {
            throw new ConceptSegException(Kind.BAD_REQUEST, "Nothing to name: no ConceptSeg results in this image. Segment "
                + "something first.");
        }
        if (found.isEmpty()) {
            throw new ConceptSegException(Kind.BAD_REQUEST, "This image has no results of the dictionary " + dictionary
                + ", only of " + String.join(", ", dictionaries(all)) + ".");
        }
        return found;
    }

    private static String onlyDictionary(List<PathObject> results) {
        TreeSet<String> found = dictionaries(results);
        if (found.size() > 1) {
            throw new ConceptSegException(Kind.BAD_REQUEST, "This image has results of several dictionaries ("
                + String.join(", ", found) + "). Set dictionary to the one that the numbers belong to.");
        }
        return found.first();
    }

    private static TreeSet<String> dictionaries(List<PathObject> results) {
        return results.stream().map(Results::dictionary).collect(Collectors.toCollection(TreeSet::new));
    }

    private static Map<Integer, ConceptLabel> classesOfServer(String identifier) {
        DictionaryInfo info = ServerLifecycle.client(text -> { }, () -> false).dictionaries("").stream()
            .filter(known -> known.getIdentifier().equals(identifier)).findFirst().orElseThrow(() ->
                new ConceptSegException(Kind.BAD_REQUEST, "The server does not know the dictionary " + identifier
                    + ", and so not its names. Segment again to get them back."));
        Map<Integer, ConceptLabel> labels = new TreeMap<>();
        info.getClassesList().forEach(concept -> labels.put(concept.getConcept(),
            new ConceptLabel(concept.getName(), concept.getColourRgb(), false)));
        return labels;
    }
}
