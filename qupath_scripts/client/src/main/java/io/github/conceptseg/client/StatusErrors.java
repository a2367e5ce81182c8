package io.github.conceptseg.client;

import io.github.conceptseg.client.ConceptSegException.Kind;
import io.grpc.Metadata;
import io.grpc.Status;
import java.util.Map;

/** From a gRPC status to the sentence to show: the one table on this side. */
final class StatusErrors {
    private static final Metadata.Key<String> ERROR = key("conceptseg-error");
    private static final Metadata.Key<String> REQUEST_ID = key("conceptseg-request-id");

    private static final Map<String, Kind> BY_NAME = Map.ofEntries(
        Map.entry("MissingPixelSizeError", Kind.NO_PIXEL_SIZE),
        Map.entry("WeightsUnavailableError", Kind.WEIGHTS_UNAVAILABLE),
        Map.entry("DeviceMemoryError", Kind.OUT_OF_MEMORY),
        Map.entry("LimitError", Kind.LIMIT),
        Map.entry("BusyError", Kind.LIMIT),
        Map.entry("AuthenticationError", Kind.AUTHENTICATION),
        Map.entry("CancelledByCallerError", Kind.CANCELLED),
        Map.entry("CallTimeError", Kind.TIMEOUT),
        Map.entry("ShuttingDownError", Kind.UNAVAILABLE),
        Map.entry("DictionaryExistsError", Kind.EXISTS),
        Map.entry("ServerError", Kind.INTERNAL));

    private StatusErrors() {
    }

    static ConceptSegException of(Throwable failure, ServerAddress server) {
        if (failure instanceof ConceptSegException known) {
            return known;
        }
        Status status = Status.fromThrowable(failure);
        Metadata trailers = Status.trailersFromThrowable(failure);
        String error = trailers == null ? null : trailers.get(ERROR);
        String requestId = trailers == null ? null : trailers.get(REQUEST_ID);
        Kind kind = error == null ? byCode(status.getCode()) : BY_NAME.getOrDefault(error, byCode(status.getCode()));
        String message = kind == Kind.AUTHENTICATION ? wrongToken(server)
            : error == null ? sentence(status, server) : status.getDescription();
        return new ConceptSegException(kind, message, orEmpty(error), orEmpty(requestId), failure);
    }

    private static Kind byCode(Status.Code code) {
        return switch (code) {
            case UNAVAILABLE -> Kind.UNAVAILABLE;
            case UNIMPLEMENTED -> Kind.VERSION_MISMATCH;
            case UNAUTHENTICATED -> Kind.AUTHENTICATION;
            case RESOURCE_EXHAUSTED -> Kind.LIMIT;
            case CANCELLED -> Kind.CANCELLED;
            case DEADLINE_EXCEEDED -> Kind.TIMEOUT;
            case ALREADY_EXISTS -> Kind.EXISTS;
            case INVALID_ARGUMENT, FAILED_PRECONDITION, PERMISSION_DENIED, OUT_OF_RANGE, NOT_FOUND -> Kind.BAD_REQUEST;
            default -> Kind.INTERNAL;
        };
    }

    /** The server speaks of metadata here, which no user of QuPath has ever seen. */
    private static String wrongToken(ServerAddress server) {
        return "The ConceptSeg server at " + server + " does not accept the token. It makes a new one with every start: "
            + "copy that from its server.json to Edit > Preferences > ConceptSeg, or to CONCEPTSEG_TOKEN.";
    }

    /** For what the server did not say itself. */
    private static String sentence(Status status, ServerAddress server) {
        Throwable cause = status.getCause();
        while (cause != null && cause.getCause() != null && cause.getCause() != cause) {
            cause = cause.getCause();
        }
        // "Connection refused" rather than the "io exception" around it.
        String detail = orEmpty(cause == null || cause.getMessage() == null ? status.getDescription() : cause.getMessage());
        String reason = detail.isEmpty() ? "" : " (" + detail + ")";
        return switch (status.getCode()) {
            case UNAVAILABLE -> "The ConceptSeg server at " + server + " cannot be reached, or went away" + reason
                + ". Nothing was changed. Run it again: Extensions > ConceptSeg > Check server says more.";
            case UNIMPLEMENTED -> "The ConceptSeg server at " + server + " is older than this extension" + reason
                + ". Update the Python package and restart the server.";
            case DEADLINE_EXCEEDED -> "The ConceptSeg server at " + server + " took too long" + reason + ".";
            default -> "The ConceptSeg server at " + server + " answered " + status.getCode() + reason + ".";
        };
    }

    private static String orEmpty(String text) {
        return text == null ? "" : text;
    }

    private static Metadata.Key<String> key(String name) {
        return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
    }
}
