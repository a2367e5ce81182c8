package io.github.conceptseg.qupath;

import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.server.ConfigFolder;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Map;
import java.util.TreeMap;
import qupath.lib.projects.Project;
import qupath.lib.scripting.QP;

/**
 * What people called the concepts of a dictionary: {@code conceptseg/names.json} in the project's folder, or
 * {@code names.json} in the user's configuration folder without a project.
 */
public final class RememberedNames {
    private static final int VERSION = 1;

    private final Path file;
    private final JsonObject dictionaries;

    /**
     * One name.
     *
     * @param name class name
     * @param colour 0xRRGGBB; null to leave it to QuPath
     */
    public record Named(String name, Integer colour) {
    }

    private RememberedNames(Path file, JsonObject dictionaries) {
        this.file = file;
        this.dictionaries = dictionaries;
    }

    /** Those of the open project, or of the user. */
    public static RememberedNames load() {
        Path file = path();
        if (!Files.exists(file)) {
            return new RememberedNames(file, new JsonObject());
        }
        try {
            JsonObject content = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
            if (content.get("version").getAsInt() == VERSION) {
                return new RememberedNames(file, content.getAsJsonObject("dictionaries"));
            }
        } catch (IOException | JsonParseException | IllegalStateException | NullPointerException
                | UnsupportedOperationException | NumberFormatException | ClassCastException damaged) {
            // said below
        }
        throw new ConceptSegException(ConceptSegException.Kind.BAD_REQUEST, file + " holds no concept names that this "
            + "version can read. Update the extension, or move the file away to start with the dictionary's own names.");
    }

    /** The names of a dictionary. */
    public Map<Integer, Named> of(String dictionary) {
        Map<Integer, Named> names = new TreeMap<>();
        if (dictionaries.has(dictionary)) {
            for (Map.Entry<String, JsonElement> entry : dictionaries.getAsJsonObject(dictionary).entrySet()) {
                JsonObject concept = entry.getValue().getAsJsonObject();
                Integer colour = concept.has("colour")
                    ? Integer.valueOf(concept.get("colour").getAsString().substring(1), 16) : null;
                names.put(Integer.valueOf(entry.getKey()), new Named(concept.get("name").getAsString(), colour));
            }
        }
        return names;
    }

    /** Replace the names of a dictionary, and write the file. */
    public void put(String dictionary, Map<Integer, Named> names) {
        JsonObject concepts = new JsonObject();
        names.forEach((concept, named) -> {
            JsonObject entry = new JsonObject();
            entry.addProperty("name", named.name());
            if (named.colour() != null) {
                entry.addProperty("colour", String.format("#%06x", named.colour() & 0xffffff));
            }
            concepts.add(concept.toString(), entry);
        });
        if (names.isEmpty()) {
            dictionaries.remove(dictionary);
        } else {
            dictionaries.add(dictionary, concepts);
        }
        write();
    }

    private void write() {
        JsonObject content = new JsonObject();
        content.addProperty("version", VERSION);
        content.add("dictionaries", dictionaries);
        try {
            Files.createDirectories(file.getParent());
            Path temporary = Files.createTempFile(file.getParent(), "names", ".tmp");
            Files.writeString(temporary, new GsonBuilder().setPrettyPrinting().create().toJson(content));
            Files.move(temporary, file, StandardCopyOption.REPLACE_EXISTING);
        } catch (IOException error) {
            throw new ConceptSegException(ConceptSegException.Kind.BAD_REQUEST, "The names cannot be written to " + file
                + " (" + error.getMessage() + "). Check that the folder can be written to.", error);
        }
    }

    private static Path path() {
        Project<?> project = QP.getProject();
        return project == null || project.getPath() == null
            ? ConfigFolder.find().resolve("names.json")
            : project.getPath().toAbsolutePath().getParent().resolve("conceptseg").resolve("names.json");
    }
}
