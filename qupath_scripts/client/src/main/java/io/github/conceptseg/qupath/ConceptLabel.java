package io.github.conceptseg.qupath;

import io.github.conceptseg.client.ConceptSegException;
import java.util.regex.Pattern;
import qupath.lib.objects.classes.PathClass;

/**
 * What people made of one concept.
 *
 * @param name class name; null if it has none yet
 * @param colour 0xRRGGBB; null to leave it to QuPath
 * @param ignored background or artefacts: QuPath's own commands leave classes out whose name ends in {@code *}
 */
public record ConceptLabel(String name, Integer colour, boolean ignored) {
    private static final String IGNORED_MARK = "*";
    private static final Pattern FORBIDDEN = Pattern.compile("[:\\p{Cntrl}\\u0085\\u2028\\u2029]");

    /** The label that a class name alone makes; fails unless QuPath takes the name as one class, unchanged. */
    public static ConceptLabel named(String name) {
        if (!isClassName(name)) {
            throw new ConceptSegException(ConceptSegException.Kind.BAD_REQUEST,
                "Expected a class name without ':' and line breaks, got '" + name + "'. Nothing was changed.");
        }
        String stripped = name.strip();
        return new ConceptLabel(stripped, null, stripped.endsWith(IGNORED_MARK));
    }

    /** Whether QuPath takes the name as one class. */
    static boolean isClassName(String name) {
        return name != null && !name.isBlank() && !FORBIDDEN.matcher(name).find();
    }

    /** Name of the class; null if neither a name nor {@code ignored} is given. */
    public String className() {
        if (!ignored) {
            return name;
        }
        String base = name == null ? "Ignore" : name;
        return base.endsWith(IGNORED_MARK) ? base : base + IGNORED_MARK;
    }

    /**
     * The class; only with a {@link #className()}. One that QuPath knows keeps its colour.
     *
     * @param otherwise colour of a new class, as QuPath packs it, if none was chosen; null to leave it to QuPath
     */
    public PathClass pathClass(Integer otherwise) {
        // Loading them makes QuPath's own colours of Tumor, Stroma, ... known, also headless.
        PathClass.StandardPathClasses.TUMOR.getColor();
        return PathClass.fromString(className(), colour == null ? otherwise : Integer.valueOf(opaque(colour)));
    }

    /** As QuPath packs colours. */
    static int opaque(int rgb) {
        return 0xff000000 | rgb;
    }
}
