package io.github.conceptseg.client;

/**
 * Something went wrong, in a sentence that a user can act on.
 *
 * <p>It never has a cause: of an exception with one, QuPath shows only the innermost message of a failed script. What
 * led to it is a suppressed exception, which stack traces show.
 */
public final class ConceptSegException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** What a program may want to tell apart. */
    public enum Kind {
        /** No server answers, or it went away. */
        UNAVAILABLE,
        /** Jar and server are of different versions. */
        VERSION_MISMATCH,
        /** The token is missing or wrong. */
        AUTHENTICATION,
        /** Weights must be applied for or cannot be downloaded. */
        WEIGHTS_UNAVAILABLE,
        /** The device ran out of memory. */
        OUT_OF_MEMORY,
        /** The server has too much to do, or the call asks for more than it allows. */
        LIMIT,
        /** The image has no pixel size. */
        NO_PIXEL_SIZE,
        /** The user, or the server's operator, stopped it. */
        CANCELLED,
        /** It took too long. */
        TIMEOUT,
        /** Something of that name is there already. */
        EXISTS,
        /** The request cannot be done as it is. */
        BAD_REQUEST,
        /** A fault of the server, or of this jar. */
        INTERNAL
    }

    private final Kind kind;
    private final String error;
    private final String requestId;

    /** An error that is told on this side of the wire. */
    public ConceptSegException(Kind kind, String message) {
        this(kind, message, "", "", null);
    }

    /** An error and what led to it, which may be null. */
    public ConceptSegException(Kind kind, String message, Throwable cause) {
        this(kind, message, "", "", cause);
    }

    ConceptSegException(Kind kind, String message, String error, String requestId, Throwable cause) {
        super(message);
        if (cause != null) {
            addSuppressed(cause);
        }
        this.kind = kind;
        this.error = error;
        this.requestId = requestId;
    }

    /** That of a cancelled job. */
    public static ConceptSegException cancelled() {
        return new ConceptSegException(Kind.CANCELLED, "Cancelled. Nothing was changed.");
    }

    /** What kind of error. */
    public Kind getKind() {
        return kind;
    }

    /** The server's name of the error, such as {@code DictionaryError}; empty if the server named none. */
    public String getError() {
        return error;
    }

    /** What the server's log calls the call; empty if unknown. */
    public String getRequestId() {
        return requestId;
    }

    /** Whether the user stopped it. */
    public boolean isCancelled() {
        return kind == Kind.CANCELLED;
    }

    /** Whether no server answers. */
    public boolean isUnavailable() {
        return kind == Kind.UNAVAILABLE;
    }
}
