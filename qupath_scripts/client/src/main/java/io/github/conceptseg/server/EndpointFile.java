package io.github.conceptseg.server;

import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.client.ServerAddress;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;

/**
 * The file in which a running server says where it listens.
 *
 * @param address where
 * @param pid its process
 * @param version of the server program
 */
public record EndpointFile(ServerAddress address, long pid, String version) {
    /** Name of the file in the configuration folder. */
    public static final String NAME = "server.json";

    /** The server that was started last; empty if there is no such file, or only a damaged one. */
    public static Optional<EndpointFile> read() {
        return read(ConfigFolder.find().resolve(NAME));
    }

    static Optional<EndpointFile> read(Path file) {
        try {
            JsonObject content = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
            String certificate = content.has("tls_certificate") ? content.get("tls_certificate").getAsString() : "";
            return Optional.of(new EndpointFile(
                ServerAddress.parse(content.get("endpoint").getAsString(), content.get("token").getAsString(), certificate),
                content.get("pid").getAsLong(),
                content.get("version").getAsString()));
        } catch (IOException | JsonParseException | IllegalStateException | NullPointerException
                | UnsupportedOperationException | NumberFormatException | ConceptSegException damaged) {
            return Optional.empty();
        }
    }
}
