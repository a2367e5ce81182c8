package io.github.conceptseg.server;

import java.nio.file.Path;
import java.util.Locale;
import java.util.Map;

/** The user's configuration folder, where the Python side looks for it. */
public final class ConfigFolder {
    private ConfigFolder() {
    }

    /** The folder; it need not exist. */
    public static Path find() {
        return find(System.getenv(), System.getProperty("os.name"), Path.of(System.getProperty("user.home")));
    }

    static Path find(Map<String, String> environment, String system, Path home) {
        String override = environment.getOrDefault("CONCEPTSEG_CONFIG_DIR", "");
        if (!override.isEmpty()) {
            return Path.of(override);
        }
        String name = system.toLowerCase(Locale.ROOT);
        if (name.startsWith("windows")) {
            String local = environment.getOrDefault("LOCALAPPDATA", "");
            return (local.isEmpty() ? home.resolve("AppData").resolve("Local") : Path.of(local)).resolve("conceptseg");
        }
        if (name.startsWith("mac")) {
            return home.resolve("Library").resolve("Application Support").resolve("conceptseg");
        }
        String xdg = environment.getOrDefault("XDG_CONFIG_HOME", "").strip();
        return (xdg.isEmpty() ? home.resolve(".config") : Path.of(xdg)).resolve("conceptseg");
    }
}
