package io.github.conceptseg.qupath;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import io.github.conceptseg.client.ConceptSegException;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.TreeMap;
import java.util.UUID;
import qupath.lib.projects.Project;
import qupath.lib.scripting.QP;

/**
 * What people made of the concepts, for all images of a project: {@code conceptseg-labels.json} in its folder.
 *
 * <p>Changes are made in the file's own tree, so that fields that this version does not know stay as they are.
 */
public final class ProjectLabels {
    /** Name of the file in the project's folder. */
    public static final String FILE_NAME = "conceptseg-labels.json";

    private static final int VERSION = 1;
    private static final String CONCEPT_NUMBER = "0|[1-9]\\d{0,8}";
    private static final long LOCKED_BYTE = 1L << 30; // the server's labels_file.py locks the same one
    private static final Gson JSON = new GsonBuilder().setPrettyPrinting().disableHtmlEscaping().create();

    private final Path file;
    private final String text;
    private final JsonObject content;

    private ProjectLabels(Path file, String text, JsonObject content) {
        this.file = file;
        this.text = text;
        this.content = content;
    }

    /** No labels, and nowhere to keep new ones. */
    static ProjectLabels none() {
        return new ProjectLabels(null, null, empty());
    }

    /** Those of the open project; without a project none. */
    public static ProjectLabels ofOpenProject() {
        Project<?> project = QP.getProject();
        return project == null || project.getPath() == null ? none()
            : read(project.getPath().toAbsolutePath().resolveSibling(FILE_NAME));
    }

    /** Those of a file, which need not exist. */
    static ProjectLabels read(Path file) {
        try {
            String text = textOf(file);
            if (text == null) {
                return new ProjectLabels(file, null, empty());
            }
            JsonObject content = object(JsonParser.parseString(text), "the file");
            BigDecimal version = number(content.get("version"), "version");
            if (version.compareTo(BigDecimal.valueOf(VERSION)) != 0) {
                throw refused(file + " is of version " + version + ", and this extension reads version " + VERSION
                    + ": update ConceptSeg, or move the file away.", null);
            }
            ProjectLabels labels = new ProjectLabels(file, text, content);
            labels.dictionaries().keySet().forEach(labels::of); // all of it is checked before any of it is used
            return labels;
        } catch (IOException error) {
            throw refused(file + " cannot be read (" + error + "): repair it, or move it away.", error);
        } catch (JsonParseException error) {
            throw refused(file + " is damaged (" + error.getMessage() + "): repair it, or move it away.", error);
        }
    }

    /** The file; empty without a project. */
    public Optional<Path> file() {
        return Optional.ofNullable(file);
    }

    /** The labels of a dictionary, by concept. */
    public Map<Integer, ConceptLabel> of(String dictionary) {
        Map<Integer, ConceptLabel> labels = new TreeMap<>();
        for (Map.Entry<String, JsonElement> entry : concepts(dictionary).entrySet()) {
            if (!entry.getKey().matches(CONCEPT_NUMBER)) {
                throw new JsonParseException("expected the number of a concept, got \"" + entry.getKey() + "\"");
            }
            labels.put(Integer.valueOf(entry.getKey()), label(object(entry.getValue(), "concept " + entry.getKey())));
        }
        return labels;
    }

    /** Call concepts of a dictionary something; the colours of their new classes count. */
    public void name(String dictionary, Map<Integer, String> names) {
        JsonObject concepts = child(child(dictionaries(), dictionary), "concepts");
        names.forEach((concept, name) -> {
            ConceptLabel label = ConceptLabel.named(name);
            JsonObject entry = child(concepts, concept.toString());
            entry.addProperty("name", label.name());
            entry.addProperty("ignored", label.ignored());
            entry.remove("colour");
        });
    }

    /** The colour, 0xRRGGBB, of all concepts of a class, in all dictionaries. */
    public void colour(String className, int rgb) {
        JsonArray colour = new JsonArray();
        for (int shift = 16; shift >= 0; shift -= 8) {
            colour.add(rgb >> shift & 0xff);
        }
        for (String dictionary : dictionaries().keySet()) {
            of(dictionary).forEach((concept, label) -> {
                if (className.equals(label.className())) {
                    concepts(dictionary).getAsJsonObject(concept.toString()).add("colour", colour.deepCopy());
                }
            });
        }
    }

    /** Forget the labels of a dictionary. */
    public void forget(String dictionary) {
        dictionaries().remove(dictionary);
    }

    /**
     * Write the file, unless somebody else changed it since it was read; it appears whole or not at all.
     *
     * @return false if somebody else changed it: nothing was written, and the change is to be made again on what is there
     */
    public boolean write() {
        synchronized (ProjectLabels.class) { // locks of files are those of the whole program
            try (FileChannel channel = lockFile(); FileLock lock = lock(channel)) {
                if (!Objects.equals(text, textOf(file))) {
                    return false;
                }
                replace();
                return true;
            } catch (IOException error) {
                throw refused("The names cannot be written to " + file + " (" + error
                    + "): check that its folder can be written to, or use remember(false).", error);
            }
        }
    }

    private void replace() throws IOException {
        // Created as any other file, so that colleagues who share the folder can read it.
        Path temporary = file.resolveSibling("." + FILE_NAME + "." + UUID.randomUUID() + ".tmp");
        try {
            Files.writeString(temporary, JSON.toJson(content) + "\n", StandardOpenOption.CREATE_NEW);
            Files.move(temporary, file, StandardCopyOption.REPLACE_EXISTING);
        } finally {
            Files.deleteIfExists(temporary);
        }
    }

    private FileChannel lockFile() throws IOException {
        return FileChannel.open(file.resolveSibling("." + file.getFileName() + ".lock"), StandardOpenOption.CREATE,
            StandardOpenOption.WRITE, LinkOption.NOFOLLOW_LINKS);
    }

    private static FileLock lock(FileChannel channel) {
        try {
            return channel.lock(LOCKED_BYTE, 1, false);
        } catch (IOException error) {
            return null; // a file system without locks: comparing is all that can be done there
        }
    }

    private static String textOf(Path file) throws IOException {
        try {
            return Files.readString(file);
        } catch (NoSuchFileException error) {
            return null;
        }
    }

    private JsonObject dictionaries() {
        return object(content.get("dictionaries"), "dictionaries");
    }

    private JsonObject concepts(String dictionary) {
        JsonElement entry = dictionaries().get(dictionary);
        JsonElement concepts = entry == null ? null : object(entry, dictionary).get("concepts");
        return concepts == null ? new JsonObject() : object(concepts, dictionary + ".concepts");
    }

    private static ConceptLabel label(JsonObject entry) {
        boolean ignored = entry.has("ignored") && primitive(entry.get("ignored"), "ignored").getAsBoolean();
        Integer colour = entry.has("colour") ? colour(entry.get("colour")) : null;
        String name = entry.has("name") ? primitive(entry.get("name"), "name").getAsString() : null;
        if (name != null && !ConceptLabel.isClassName(name)) {
            throw new JsonParseException("expected a class name without ':' and line breaks, got '" + name + "'");
        }
        return new ConceptLabel(name == null ? null : name.strip(), colour, ignored);
    }

    private static int colour(JsonElement element) {
        if (!element.isJsonArray() || element.getAsJsonArray().size() != 3) {
            throw new JsonParseException("expected [red, green, blue] for colour, got " + element);
        }
        int rgb = 0;
        for (JsonElement part : element.getAsJsonArray()) {
            int value = number(part, "colour").intValue();
            if (value < 0 || value > 255) {
                throw new JsonParseException("expected 0 to 255 in colour, got " + value);
            }
            rgb = rgb << 8 | value;
        }
        return rgb;
    }

    private static JsonObject child(JsonObject parent, String name) {
        if (!parent.has(name)) {
            parent.add(name, new JsonObject());
        }
        return object(parent.get(name), name);
    }

    private static JsonObject object(JsonElement element, String what) {
        if (element == null || !element.isJsonObject()) {
            throw new JsonParseException("expected {...} for " + what + ", got " + element);
        }
        return element.getAsJsonObject();
    }

    private static JsonPrimitive primitive(JsonElement element, String what) {
        if (element == null || !element.isJsonPrimitive()) {
            throw new JsonParseException("expected a value for " + what + ", got " + element);
        }
        return element.getAsJsonPrimitive();
    }

    private static BigDecimal number(JsonElement element, String what) {
        try {
            return primitive(element, what).getAsBigDecimal();
        } catch (NumberFormatException error) {
            throw new JsonParseException("expected a number for " + what + ", got " + element, error);
        }
    }

    private static JsonObject empty() {
        JsonObject content = new JsonObject();
        content.addProperty("version", VERSION);
        content.add("dictionaries", new JsonObject());
        return content;
    }

    private static ConceptSegException refused(String sentence, Exception cause) {
        return new ConceptSegException(ConceptSegException.Kind.BAD_REQUEST, sentence + " Nothing was changed.", cause);
    }
}
