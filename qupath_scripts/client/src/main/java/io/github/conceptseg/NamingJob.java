package io.github.conceptseg;

import io.github.conceptseg.qupath.Naming;
import io.github.conceptseg.qupath.RememberedNames;
import io.github.conceptseg.qupath.RememberedNames.Named;
import io.github.conceptseg.qupath.Results;
import io.github.conceptseg.server.ServerLifecycle;
import io.github.conceptseg.v1.ConceptClass;
import io.github.conceptseg.v1.DictionaryInfo;
import java.awt.image.BufferedImage;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;

/** Names, merges and colours concepts in an image's results. */
public final class NamingJob {
    private static final String IGNORE = "Ignore*";

    private final ImageData<BufferedImage> imageData;
    private final Map<Integer, String> names = new TreeMap<>();
    private final Map<String, Integer> colours = new HashMap<>();
    private String dictionary;
    private boolean reset;
    private boolean dissolve;
    private boolean remember = true;

    NamingJob(ImageData<BufferedImage> imageData) {
        this.imageData = ConceptSeg.require(imageData);
    }

    /** Which dictionary's concepts; needed if the image has results of several. */
    public NamingJob dictionary(String identifier) {
        dictionary = identifier;
        return this;
    }

    /** Call a concept something; concepts of the same name share a class. */
    public NamingJob name(int concept, String name) {
        Naming.requireClassName(name);
        names.put(concept, name);
        return this;
    }

    /** Several names at once. */
    public NamingJob names(Map<Integer, String> byConcept) {
        byConcept.forEach(this::name);
        return this;
    }

    /** The colour of a class, 0xRRGGBB. */
    public NamingJob colour(String name, int rgb) {
        colours.put(name, rgb & 0xffffff);
        return this;
    }

    /** Several colours at once. */
    public NamingJob colours(Map<String, Integer> byName) {
        byName.forEach(this::colour);
        return this;
    }

    /** Background and artefacts: class {@code Ignore*}, which QuPath leaves out of measurements. */
    public NamingJob ignore(int... concepts) {
        return ignore(Arrays.stream(concepts).boxed().toList());
    }

    /** Background and artefacts. */
    public NamingJob ignore(Collection<Integer> concepts) {
        concepts.forEach(concept -> names.put(concept, IGNORE));
        return this;
    }

    /** Back to the names of the dictionary; names given here still count. */
    public NamingJob reset() {
        reset = true;
        return this;
    }

    /** Make one object of touching ones of the same class (false). */
    public NamingJob dissolve(boolean touching) {
        dissolve = touching;
        return this;
    }

    /** Keep the names for later runs (true). */
    public NamingJob remember(boolean keep) {
        remember = keep;
        return this;
    }

    /** Do it. */
    public NamingReport apply() {
        List<PathObject> all = Results.of(imageData);
        String identifier = Naming.dictionary(all, dictionary);
        RememberedNames store = RememberedNames.load();
        Map<Integer, Named> named = new TreeMap<>();
        Map<Integer, PathClass> classes = new HashMap<>();
        if (reset) {
            own(identifier).forEach(concept -> classes.put(concept.getConcept(),
                PathClass.fromString(concept.getName(), concept.getColourRgb())));
        } else {
            named.putAll(store.of(identifier));
        }
        names.forEach((concept, name) -> named.put(concept, new Named(name, null)));
        named.replaceAll((concept, known) ->
            new Named(known.name(), colours.getOrDefault(known.name(), known.colour())));
        named.forEach((concept, known) -> {
            PathClass pathClass = PathClass.fromString(known.name(), known.colour());
            if (known.colour() != null) {
                pathClass.setColor(known.colour());
            }
            classes.put(concept, pathClass);
        });
        List<PathObject> mine = ofDictionary(identifier);
        int changed = Naming.rename(imageData, mine, classes).size();
        int dissolved = dissolve ? Naming.dissolve(imageData, mine) : 0;
        if (remember) {
            store.put(identifier, named);
        }
        List<String> present = ofDictionary(identifier).stream()
            .map(result -> String.valueOf(result.getPathClass())).distinct().sorted().toList();
        NamingReport report = new NamingReport(identifier, changed, dissolved, present);
        report.log();
        return report;
    }

    private List<PathObject> ofDictionary(String identifier) {
        return Results.of(imageData).stream()
            .filter(result -> identifier.equals(result.getMetadata().get(Results.DICTIONARY))).toList();
    }

    private static List<ConceptClass> own(String identifier) {
        return ServerLifecycle.client(text -> { }, () -> false).dictionaries("").stream()
            .filter(info -> info.getIdentifier().equals(identifier)).findFirst()
            .map(DictionaryInfo::getClassesList).orElse(List.of());
    }
}
