package io.github.conceptseg;

import java.util.List;
import org.slf4j.LoggerFactory;

/** What was named. */
public final class NamingReport {
    private final String dictionary;
    private final int changed;
    private final int dissolved;
    private final List<String> classes;

    NamingReport(String dictionary, int changed, int dissolved, List<String> classes) {
        this.dictionary = dictionary;
        this.changed = changed;
        this.dissolved = dissolved;
        this.classes = List.copyOf(classes);
    }

    void log() {
        LoggerFactory.getLogger("ConceptSeg").info(toString());
    }

    /** Annotations that got another class. */
    public int getChanged() {
        return changed;
    }

    /** Annotations that went into a neighbour. */
    public int getDissolved() {
        return dissolved;
    }

    /** The classes of the dictionary's results now. */
    public List<String> getClasses() {
        return classes;
    }

    @Override
    public String toString() {
        return dictionary + ": " + changed + " annotations renamed"
            + (dissolved > 0 ? ", " + dissolved + " merged into a neighbour" : "") + "; classes now: "
            + String.join(", ", classes);
    }
}
