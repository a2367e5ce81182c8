package io.github.conceptseg.qupath;

import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.function.Function;
import java.util.stream.Collectors;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;

/** The classes that results are to have, by the labels of their concepts. Changes nothing yet. */
public final class LabelledClasses {
    private final Collection<PathObject> results;
    private final Map<PathObject, PathClass> chosen = new LinkedHashMap<>();
    private final Map<PathClass, Integer> colours = new LinkedHashMap<>();
    private final Set<PathObject> ambiguous = new LinkedHashSet<>();

    /**
     * Choose the classes.
     *
     * @param results what is to be named
     * @param labelsOf the labels of a dictionary, by concept
     */
    public LabelledClasses(Collection<PathObject> results, Function<String, Map<Integer, ConceptLabel>> labelsOf) {
        this.results = results;
        Map<String, Map<Integer, ConceptLabel>> known = new HashMap<>();
        for (PathObject result : results) {
            choose(result, known.computeIfAbsent(Results.dictionary(result), labelsOf));
        }
    }

    /** The class that a result is to have: its own, if its concepts have no label. */
    public PathClass of(PathObject result) {
        return chosen.getOrDefault(result, result.getPathClass());
    }

    /** The classes that labels name. */
    public Set<PathClass> named() {
        return new LinkedHashSet<>(chosen.values());
    }

    /** Results whose class labels name, all of one mind. */
    public List<PathObject> mergeable() {
        Set<PathClass> named = named();
        return results.stream().filter(result -> named.contains(of(result)) && !ambiguous.contains(result)).toList();
    }

    /** How many results are made of concepts that have different names now; they stay as they are. */
    public int ambiguous() {
        return ambiguous.size();
    }

    /** Add what differs from the labels to the changes. */
    public void plan(Changes changes) {
        chosen.forEach((result, pathClass) -> {
            if (result.getPathClass() != pathClass) {
                changes.classify(result, pathClass);
            }
        });
        colours.forEach((pathClass, rgb) -> {
            if (pathClass.getColor() == null || (pathClass.getColor() & 0xffffff) != rgb) {
                changes.colour(pathClass, rgb, results.stream().filter(result -> of(result) == pathClass).toList());
            }
        });
    }

    private void choose(PathObject result, Map<Integer, ConceptLabel> labels) {
        List<ConceptLabel> ofConcepts = Results.concepts(result).stream().map(labels::get).toList();
        Set<String> names = ofConcepts.stream().map(label -> label == null ? null : label.className())
            .collect(Collectors.toSet());
        if (names.size() > 1) {
            ambiguous.add(result);
        } else if (!names.isEmpty() && !names.contains(null)) {
            PathClass pathClass = ofConcepts.get(0).pathClass(colourToKeep(result.getPathClass(), labels.values()));
            chosen.put(result, pathClass);
            ofConcepts.stream().map(ConceptLabel::colour).filter(Objects::nonNull).findFirst()
                .ifPresent(rgb -> colours.put(pathClass, rgb));
        }
    }

    /** A new name keeps the colour of the class that it replaces, unless that is still the name of another concept. */
    private static Integer colourToKeep(PathClass before, Collection<ConceptLabel> labels) {
        boolean replaced = before != null
            && labels.stream().noneMatch(label -> before.toString().equals(label.className()));
        return replaced ? before.getColor() : null;
    }
}
