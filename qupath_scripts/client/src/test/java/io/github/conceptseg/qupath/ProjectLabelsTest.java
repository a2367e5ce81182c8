package io.github.conceptseg.qupath;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonParser;
import io.github.conceptseg.client.ConceptSegException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ProjectLabelsTest {
    @TempDir
    private Path folder;
    private Path file;

    @BeforeEach
    void nameTheFile() {
        file = folder.resolve(ProjectLabels.FILE_NAME);
    }

    @Test
    void withoutAFileThereAreNoLabels() {
        assertEquals(Map.of(), ProjectLabels.read(file).of("default-k16"));
        assertTrue(ProjectLabels.none().file().isEmpty());
    }

    @Test
    void theFileIsWrittenInItsFormat() throws IOException {
        ProjectLabels labels = ProjectLabels.read(file);
        labels.name("default-k16", Map.of(3, "Tumor", 14, "Ignore*"));
        labels.colour("Tumor", 0xc80001);
        labels.write();
        assertJson("""
            {"version": 1, "dictionaries": {"default-k16": {"concepts": {
              "3": {"name": "Tumor", "ignored": false, "colour": [200, 0, 1]},
              "14": {"name": "Ignore*", "ignored": true}}}}}""");
        assertEquals(Map.of(3, new ConceptLabel("Tumor", 0xc80001, false), 14, new ConceptLabel("Ignore*", null, true)),
            ProjectLabels.read(file).of("default-k16"));
        try (var files = Files.list(folder)) {
            assertEquals(List.of(folder.resolve("." + ProjectLabels.FILE_NAME + ".lock"), file), files.sorted().toList());
        }
    }

    @Test
    void whatAnotherVersionOrProgramWroteIsKept() throws IOException {
        Files.writeString(file, """
            {"version": 1, "note": "ä<b>", "dictionaries": {"other": {"concepts": {}, "more": 1.50},
              "default-k16": {"by": "me", "concepts": {"3": {"name": "Stroma", "colour": [1, 2, 3], "seen": true}}}}}""");
        ProjectLabels labels = ProjectLabels.read(file);
        labels.name("default-k16", Map.of(3, "Tumor"));
        labels.write();
        assertJson("""
            {"version": 1, "note": "ä<b>", "dictionaries": {"other": {"concepts": {}, "more": 1.50},
              "default-k16": {"by": "me", "concepts": {"3": {"name": "Tumor", "ignored": false, "seen": true}}}}}""");
    }

    @Test
    void whatSomebodyElseWroteMeanwhileIsNotOverwritten() throws IOException {
        ProjectLabels labels = ProjectLabels.read(file);
        labels.name("default-k16", Map.of(3, "Tumor"));
        ProjectLabels others = ProjectLabels.read(file);
        others.name("default-k16", Map.of(5, "Fat"));
        assertTrue(others.write());
        assertFalse(labels.write());
        assertEquals(Map.of(5, ConceptLabel.named("Fat")), ProjectLabels.read(file).of("default-k16"));
        ProjectLabels again = ProjectLabels.read(file);
        again.name("default-k16", Map.of(3, "Tumor"));
        assertTrue(again.write());
        assertEquals(2, ProjectLabels.read(file).of("default-k16").size());
    }

    @Test
    void manyWritersLoseNothing() throws Exception {
        var threads = Executors.newFixedThreadPool(4);
        try {
            List<Future<?>> all = IntStream.range(0, 60).<Future<?>>mapToObj(concept -> threads.submit(() -> {
                ProjectLabels labels;
                do {
                    labels = ProjectLabels.read(file);
                    labels.name("default-k64", Map.of(concept, "Class " + concept));
                } while (!labels.write());
            })).toList();
            for (Future<?> one : all) {
                one.get();
            }
        } finally {
            threads.shutdown();
        }
        assertEquals(60, ProjectLabels.read(file).of("default-k64").size());
    }

    @Test
    void aColourCountsForAllConceptsOfTheClassInAllDictionaries() {
        ProjectLabels labels = ProjectLabels.read(file);
        labels.name("a", Map.of(1, "Tumor", 2, "Stroma"));
        labels.name("b", Map.of(7, "Tumor"));
        labels.colour("Tumor", 0x010203);
        assertEquals(0x010203, labels.of("a").get(1).colour());
        assertNull(labels.of("a").get(2).colour());
        assertEquals(0x010203, labels.of("b").get(7).colour());
        labels.forget("a");
        assertEquals(Map.of(), labels.of("a"));
    }

    @Test
    void ignoredClassesEndInAStar() {
        assertEquals("Tumor", new ConceptLabel("Tumor", null, false).className());
        assertEquals("Tumor*", new ConceptLabel("Tumor", null, true).className());
        assertEquals("Tumor*", new ConceptLabel("Tumor*", null, true).className());
        assertEquals("Ignore*", new ConceptLabel(null, null, true).className());
        assertNull(new ConceptLabel(null, 0x010203, false).className());
        assertEquals(new ConceptLabel("Fat*", null, true), ConceptLabel.named(" Fat* "));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "{", "[]", "null", "{}", "{\"version\": \"x\"}", "{\"version\": 1}",
        "{\"version\": 1, \"dictionaries\": []}",
        "{\"version\": 1, \"dictionaries\": {\"a\": 1}}",
        "{\"version\": 1, \"dictionaries\": {\"a\": {\"concepts\": []}}}",
        "{\"version\": 1, \"dictionaries\": {\"a\": {\"concepts\": {\"x\": {\"name\": \"Tumor\"}}}}}",
        "{\"version\": 1, \"dictionaries\": {\"a\": {\"concepts\": {\"1\": \"Tumor\"}}}}",
        "{\"version\": 1, \"dictionaries\": {\"a\": {\"concepts\": {\"1\": {\"name\": [\"Tumor\"]}}}}}",
        "{\"version\": 1, \"dictionaries\": {\"a\": {\"concepts\": {\"1\": {\"name\": \"a: b\"}}}}}",
        "{\"version\": 1, \"dictionaries\": {\"a\": {\"concepts\": {\"1\": {\"colour\": [1, 2]}}}}}",
        "{\"version\": 1, \"dictionaries\": {\"a\": {\"concepts\": {\"1\": {\"colour\": [1, 2, 256]}}}}}",
        "{\"version\": 1, \"dictionaries\": {\"a\": {\"concepts\": {\"1\": {\"colour\": \"red\"}}}}}"})
    void aDamagedFileIsNamedWithTheWayOutAndStaysAsItIs(String content) throws IOException {
        Files.writeString(file, content);
        String told = assertThrows(ConceptSegException.class, () -> ProjectLabels.read(file)).getMessage();
        assertTrue(told.startsWith(file + " is damaged ("), told);
        assertTrue(told.endsWith("): repair it, or move it away. Nothing was changed."), told);
        assertEquals(content, Files.readString(file));
    }

    @Test
    void anotherVersionOfTheFileIsRefused() throws IOException {
        Files.writeString(file, "{\"version\": 2, \"dictionaries\": []}");
        String told = assertThrows(ConceptSegException.class, () -> ProjectLabels.read(file)).getMessage();
        assertTrue(told.contains("is of version 2") && told.contains("update ConceptSeg"), told);
    }

    @Test
    void aFileThatCannotBeWrittenIsOneSentence() {
        ProjectLabels labels = ProjectLabels.read(folder.resolve("gone").resolve(ProjectLabels.FILE_NAME));
        labels.name("a", Map.of(1, "Tumor"));
        String told = assertThrows(ConceptSegException.class, labels::write).getMessage();
        assertTrue(told.startsWith("The names cannot be written to ") && told.endsWith("Nothing was changed."), told);
        assertFalse(Files.exists(folder.resolve("gone")));
    }

    private void assertJson(String expected) throws IOException {
        assertEquals(JsonParser.parseString(expected), JsonParser.parseString(Files.readString(file)));
    }
}
