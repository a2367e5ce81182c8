package io.github.conceptseg;

/** Numbers in sentences: 1 region, 2 regions. */
final class Counted {
    private Counted() {
    }

    static String of(long number, String noun) {
        return number + " " + noun + (number == 1 ? "" : "s");
    }
}
