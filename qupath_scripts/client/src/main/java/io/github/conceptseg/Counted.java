package io.github.conceptseg;

/** Numbers in sentences: 1 region, 2 regions. */
public final class Counted {
    private Counted() {
    }

    /** The number and its noun, in the plural with {@code s} but for 1. */
    public static String of(long number, String noun) {
        return number + " " + noun + (number == 1 ? "" : "s");
    }
}
