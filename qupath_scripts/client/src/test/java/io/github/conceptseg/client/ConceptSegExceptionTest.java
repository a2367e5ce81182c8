package io.github.conceptseg.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import io.github.conceptseg.client.ConceptSegException.Kind;
import io.grpc.Status;
import java.io.IOException;
import org.junit.jupiter.api.Test;

class ConceptSegExceptionTest {
    @Test
    void whatLedToItIsSuppressedBecauseQuPathShowsTheInnermostCauseOnly() {
        IOException reason = new IOException("disk");
        ConceptSegException error = new ConceptSegException(Kind.BAD_REQUEST, "A sentence.", reason);
        assertNull(error.getCause());
        assertEquals("A sentence.", error.getMessage());
        assertArrayEquals(new Throwable[] {reason}, error.getSuppressed());
        assertEquals(0, new ConceptSegException(Kind.BAD_REQUEST, "A sentence.", null).getSuppressed().length);
    }

    @Test
    void errorsOfTheConnectionHaveNoCauseEither() {
        var lost = Status.UNAVAILABLE.withCause(new IOException("Connection refused")).asRuntimeException();
        ConceptSegException error = StatusErrors.of(lost, ServerAddress.parse("localhost:1", "", ""));
        assertNull(error.getCause());
        assertEquals(Kind.UNAVAILABLE, error.getKind());
    }
}
