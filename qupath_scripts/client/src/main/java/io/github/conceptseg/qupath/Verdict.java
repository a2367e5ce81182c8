package io.github.conceptseg.qupath;

import java.util.Locale;
import qupath.lib.objects.PathObject;

/** What a person said about a result: whether it is what its concept stands for. */
public enum Verdict {
    /** It is. */
    ACCEPTED,
    /** It is not. */
    REJECTED;

    /** Metadata of a reviewed object: {@code accepted} or {@code rejected}. */
    public static final String KEY = "conceptseg.review";

    /** A rejected object is drawn in grey, whatever its class: QuPath's own colour of an object. */
    private static final int REJECTED_COLOUR = 0x808080;

    /** The verdict on a result; null without one. */
    public static Verdict of(PathObject result) {
        String said = result.getMetadata().get(KEY);
        for (Verdict verdict : values()) {
            if (verdict.text().equals(said)) {
                return verdict;
            }
        }
        return null;
    }

    /** Add to the changes that a result has this verdict; none if null. */
    public static void plan(PathObject result, Verdict verdict, Changes changes) {
        changes.describe(result, KEY, verdict == null ? null : verdict.text());
        if (verdict == REJECTED) {
            changes.paint(result, REJECTED_COLOUR);
        } else if (of(result) == REJECTED) {
            changes.paint(result, null);
        }
    }

    /** As people and files read it. */
    public String text() {
        return name().toLowerCase(Locale.ROOT);
    }
}
