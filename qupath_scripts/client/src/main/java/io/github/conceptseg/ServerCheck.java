package io.github.conceptseg;

import java.util.List;

/** What a check of the server found. */
public final class ServerCheck {
    private final boolean ok;
    private final List<String> lines;

    ServerCheck(boolean ok, List<String> lines) {
        this.ok = ok;
        this.lines = List.copyOf(lines);
    }

    /** Whether segmentations can be run. */
    public boolean isOk() {
        return ok;
    }

    /** Findings, and what to do. */
    public List<String> getLines() {
        return lines;
    }

    @Override
    public String toString() {
        return String.join("\n", lines);
    }
}
