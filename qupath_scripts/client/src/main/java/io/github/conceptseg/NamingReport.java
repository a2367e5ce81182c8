package io.github.conceptseg;

import io.github.conceptseg.qupath.Changes;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import qupath.lib.objects.PathObject;

/** What was named. */
public final class NamingReport {
    private static final Logger LOG = LoggerFactory.getLogger("ConceptSeg");

    private final int changed;
    private final int merged;
    private final int made;
    private final int ambiguous;
    private final Map<String, Long> classes;
    private final List<String> notes = new ArrayList<>();

    NamingReport(Changes changes, int ambiguous, List<PathObject> results) {
        changed = changes.changed();
        merged = changes.merged();
        made = changes.merges();
        this.ambiguous = ambiguous;
        classes = results.stream().collect(Collectors.groupingBy(
            result -> result.getPathClass() == null ? "Unclassified" : result.getPathClass().toString(), TreeMap::new,
            Collectors.counting()));
        if (ambiguous > 0) {
            notes.add((ambiguous == 1 ? "1 annotation was" : ambiguous + " annotations were") + " merged from concepts that "
                + "have different names now and " + (ambiguous == 1 ? "stays as it is" : "stay as they are")
                + ". Segment again to separate them.");
        }
    }

    void remembered(Optional<Path> file) {
        notes.add(file.map(path -> "Remembered in the project's " + path.getFileName() + ".").orElse(
            "Not remembered: this image is in no project. Create a project (File > Project) to keep names."));
    }

    void log() {
        getLines().forEach(LOG::info);
    }

    /** Annotations that have another class or colour now, merged ones included. */
    public int getChanged() {
        return changed;
    }

    /** Annotations that went into merged ones. */
    public int getMerged() {
        return merged;
    }

    /** Merged annotations that were made of them. */
    public int getMade() {
        return made;
    }

    /** Annotations of several concepts that have different names now; they were left alone. */
    public int getAmbiguous() {
        return ambiguous;
    }

    /** The classes of the results now, and how many annotations each has. */
    public Map<String, Long> getClasses() {
        return classes;
    }

    /** For people, without the classes. */
    public List<String> getDone() {
        List<String> lines = new ArrayList<>(notes);
        lines.add("Named " + Counted.of(changed, "ConceptSeg annotation")
            + (merged > 0 ? ", merged " + merged + " into " + made : "") + ".");
        return lines;
    }

    /** For people; the last one sums up. */
    public List<String> getLines() {
        List<String> lines = getDone();
        lines.add(lines.remove(lines.size() - 1) + " Now: " + classes.entrySet().stream()
            .map(entry -> entry.getKey() + " (" + entry.getValue() + ")").collect(Collectors.joining(", ")) + ".");
        return lines;
    }

    @Override
    public String toString() {
        return String.join("\n", getLines());
    }
}
