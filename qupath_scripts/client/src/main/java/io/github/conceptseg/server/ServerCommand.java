package io.github.conceptseg.server;

import com.google.gson.JsonElement;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import io.github.conceptseg.client.ConceptSegException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** How to start a server: what {@code conceptseg qupath install} wrote. */
final class ServerCommand {
    private static final String NAME = "qupath.json";

    private ServerCommand() {
    }

    static List<String> read() {
        Path file = ConfigFolder.find().resolve(NAME);
        if (!Files.exists(file)) {
            throw new ConceptSegException(ConceptSegException.Kind.UNAVAILABLE, "No ConceptSeg server is running, and "
                + "this extension does not know how to start one: there is no " + file + ". Run `conceptseg qupath "
                + "install` in a terminal once, or start `conceptseg serve`.");
        }
        try {
            List<String> command = new ArrayList<>();
            for (JsonElement part : JsonParser.parseString(Files.readString(file)).getAsJsonObject()
                    .getAsJsonArray("command")) {
                command.add(part.getAsString());
            }
            if (!command.isEmpty()) {
                return command;
            }
        } catch (IOException | JsonParseException | IllegalStateException | NullPointerException
                | UnsupportedOperationException | ClassCastException damaged) {
            // said below
        }
        throw new ConceptSegException(ConceptSegException.Kind.UNAVAILABLE, file + " does not hold the command that "
            + "starts the ConceptSeg server. Run `conceptseg qupath install` in a terminal again.");
    }
}
