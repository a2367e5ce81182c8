package io.github.conceptseg.qupath;

import io.github.conceptseg.v1.Progress;

/** The server's progress as a share of a job, and in words. */
public final class ProgressText {
    private static final double LOADED = 0.05;
    private static final double ENCODED = 0.85;

    private ProgressText() {
    }

    /** Share of one region that is done. */
    public static double fraction(Progress progress) {
        double share = progress.getTotal() > 0 ? (double) progress.getDone() / progress.getTotal() : 0;
        return switch (progress.getStage()) {
            case "queued", "load" -> LOADED * share;
            case "encode" -> LOADED + (ENCODED - LOADED) * share;
            case "learn" -> ENCODED;
            case "fit" -> ENCODED + (1 - ENCODED) * share;
            default -> ENCODED + 0.1;
        };
    }

    /** In words, with the time that is left. */
    public static String words(Progress progress) {
        String text = progress.getMessage().isEmpty() ? progress.getStage() : progress.getMessage();
        if (!progress.hasSecondsLeft() || progress.getSecondsLeft() < 1) {
            return text;
        }
        long seconds = Math.round(progress.getSecondsLeft());
        return text + ", about " + (seconds < 90 ? seconds + " s" : Math.round(seconds / 60.0) + " min") + " left";
    }
}
