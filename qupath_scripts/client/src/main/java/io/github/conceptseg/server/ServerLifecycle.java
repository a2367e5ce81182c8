package io.github.conceptseg.server;

import io.github.conceptseg.client.ConceptSegClient;
import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.client.ConceptSegException.Kind;
import io.github.conceptseg.client.ServerAddress;
import io.github.conceptseg.v1.GetServerInfoResponse;
import java.util.List;
import java.util.Optional;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import java.util.function.Supplier;

/** Finds a server that answers, or starts one; one client is shared by all jobs of this process. */
public final class ServerLifecycle {
    /** A server that is busy, or on a busy computer, takes a while; one that is gone refuses at once. */
    private static final double ANSWER_SECONDS = 30;
    private static final long START_SECONDS = 180;

    private static Supplier<Optional<ServerAddress>> configured = ServerLifecycle::fromEnvironment;
    private static ConceptSegClient client;
    private static boolean clientIsNamed; // the user named its server
    private static OwnServer own;

    private ServerLifecycle() {
    }

    /** Where to look first for a server that the user named; asked whenever a server is needed. */
    public static synchronized void setConfigured(Supplier<Optional<ServerAddress>> source) {
        configured = source;
    }

    /** The server named by environment variables. */
    public static Optional<ServerAddress> fromEnvironment() {
        String endpoint = System.getenv().getOrDefault("CONCEPTSEG_SERVER", "");
        return endpoint.isBlank() ? Optional.empty() : Optional.of(ServerAddress.parse(endpoint,
            System.getenv().getOrDefault("CONCEPTSEG_TOKEN", ""),
            System.getenv().getOrDefault("CONCEPTSEG_TLS_CERT", "")));
    }

    /**
     * A client of a server that answers.
     *
     * @param status told what is waited for
     * @param cancelled asked while waiting
     */
    public static synchronized ConceptSegClient client(Consumer<String> status, BooleanSupplier cancelled) {
        Optional<ServerAddress> named = configured.get();
        if (named.isEmpty() && clientIsNamed) {
            forget(); // the user wants that server no longer
        }
        clientIsNamed = named.isPresent();
        if (named.isPresent()) {
            return use(named.get());
        }
        if (client != null && answers(client)) {
            return client;
        }
        Optional<EndpointFile> running = EndpointFile.read().filter(file -> isAlive(file.pid()));
        if (running.isPresent()) {
            try {
                return use(running.get().address());
            } catch (ConceptSegException gone) {
                if (gone.getKind() == Kind.VERSION_MISMATCH) {
                    throw gone;
                }
                // a file that a killed server left behind: start another
            }
        }
        return start(status, cancelled);
    }

    /** Ends the server that this process started; others are left alone. */
    public static synchronized void stop() {
        forget();
        if (own != null) {
            own.stop();
            own = null;
        }
    }

    /** The end of the log of the server that this process started. */
    public static synchronized List<String> log(int lines) {
        return own == null ? List.of() : own.lastLines(lines);
    }

    private static ConceptSegClient start(Consumer<String> status, BooleanSupplier cancelled) {
        if (own != null) {
            own.stop();
        }
        List<String> command = ServerCommand.read();
        status.accept("Starting the server, up to a minute");
        own = OwnServer.start(command);
        own.awaitReady(START_SECONDS, cancelled);
        ServerAddress address = EndpointFile.read().map(EndpointFile::address).orElseThrow(() ->
            new ConceptSegException(Kind.UNAVAILABLE, "The ConceptSeg server started, but wrote no "
                + ConfigFolder.find().resolve(EndpointFile.NAME) + ". Its log: " + own.logFile()));
        return use(address);
    }

    private static ConceptSegClient use(ServerAddress address) {
        if (client == null || !client.address().equals(address)) {
            forget();
            client = ConceptSegClient.connect(address);
        }
        GetServerInfoResponse info = client.info(ANSWER_SECONDS);
        client.requireCompatible(info);
        return client;
    }

    private static boolean answers(ConceptSegClient candidate) {
        try {
            candidate.info(ANSWER_SECONDS);
            return true;
        } catch (ConceptSegException gone) {
            forget();
            return false;
        }
    }

    private static void forget() {
        if (client != null) {
            client.close();
            client = null;
        }
    }

    private static boolean isAlive(long pid) {
        return ProcessHandle.of(pid).map(ProcessHandle::isAlive).orElse(false);
    }
}
