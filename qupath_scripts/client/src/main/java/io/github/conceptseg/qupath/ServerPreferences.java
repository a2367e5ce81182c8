package io.github.conceptseg.qupath;

import io.github.conceptseg.client.ServerAddress;
import io.github.conceptseg.server.ServerLifecycle;
import java.util.Optional;
import javafx.beans.property.StringProperty;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.prefs.PathPrefs;

/** A server on another computer, as the user names it in QuPath's preferences. */
final class ServerPreferences {
    private static final String CATEGORY = "ConceptSeg";

    private ServerPreferences() {
    }

    static void install(QuPathGUI qupath) {
        StringProperty endpoint = PathPrefs.createPersistentPreference("conceptseg.endpoint", "");
        StringProperty token = PathPrefs.createPersistentPreference("conceptseg.token", "");
        StringProperty certificate = PathPrefs.createPersistentPreference("conceptseg.certificate", "");
        var pane = qupath.getPreferencePane();
        pane.addPropertyPreference(endpoint, String.class, "ConceptSeg server", CATEGORY,
            "HOST:PORT of a server on another computer. Empty: the server of this computer, started when needed.");
        pane.addPropertyPreference(token, String.class, "Server token", CATEGORY,
            "Token of that server, from the server.json it wrote when it started.");
        pane.addPropertyPreference(certificate, String.class, "Server certificate", CATEGORY,
            "File with the TLS certificate of that server (PEM).");
        ServerLifecycle.setConfigured(() -> {
            Optional<ServerAddress> environment = ServerLifecycle.fromEnvironment();
            String named = endpoint.get();
            return environment.isPresent() || named == null || named.isBlank() ? environment
                : Optional.of(ServerAddress.parse(named, orEmpty(token.get()), orEmpty(certificate.get())));
        });
    }

    private static String orEmpty(String text) {
        return text == null ? "" : text;
    }
}
