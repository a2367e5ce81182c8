package io.github.conceptseg.server;

import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.client.ConceptSegException.Kind;
import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;

/** A server process that this Java process started and that ends with it. */
final class OwnServer {
    private static final String LOG = "qupath-server.log";
    private static final int KEPT_LINES = 400;

    private final List<String> command;
    private final Process process;
    private final Path logFile;
    private final Deque<String> lines = new ArrayDeque<>();
    private final CountDownLatch ready = new CountDownLatch(1);
    private final CountDownLatch ended = new CountDownLatch(1);

    private OwnServer(List<String> command, Process process, Path logFile) {
        this.command = command;
        this.process = process;
        this.logFile = logFile;
    }

    static OwnServer start(List<String> configured) {
        List<String> command = new ArrayList<>(configured);
        command.add("--parent-pid");
        command.add(Long.toString(ProcessHandle.current().pid()));
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().put("PYTHONUNBUFFERED", "1");
        builder.environment().put("PYTHONIOENCODING", "utf-8");
        Path folder = ConfigFolder.find();
        try {
            Files.createDirectories(folder);
            Process process = builder.start();
            process.getOutputStream().close();
            OwnServer server = new OwnServer(command, process, folder.resolve(LOG));
            Thread reader = new Thread(server::readLog, "ConceptSeg server log");
            reader.setDaemon(true);
            reader.start();
            Runtime.getRuntime().addShutdownHook(new Thread(process::destroy, "ConceptSeg server end"));
            return server;
        } catch (IOException error) {
            throw new ConceptSegException(Kind.UNAVAILABLE, "The ConceptSeg server cannot be started ("
                + error.getMessage() + "). If Python was moved or removed, run `conceptseg qupath install` in a "
                + "terminal again.", error);
        }
    }

    /** Wait until the server takes calls. */
    void awaitReady(long seconds, BooleanSupplier cancelled) {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        try {
            while (!ready.await(100, TimeUnit.MILLISECONDS)) {
                if (cancelled.getAsBoolean()) {
                    stop();
                    throw ConceptSegException.cancelled();
                }
                if (ended.getCount() == 0) {
                    process.waitFor(5, TimeUnit.SECONDS);
                    throw failure("ended" + (process.isAlive() ? "" : " with exit code " + process.exitValue()));
                }
                if (System.nanoTime() > end) {
                    stop();
                    throw failure("was not ready within " + seconds + " s");
                }
            }
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            stop();
            throw ConceptSegException.cancelled();
        }
    }

    boolean isAlive() {
        return process.isAlive();
    }

    long pid() {
        return process.pid();
    }

    void stop() {
        process.destroy();
    }

    List<String> lastLines(int count) {
        synchronized (lines) {
            return lines.stream().skip(Math.max(0, lines.size() - count)).toList();
        }
    }

    Path logFile() {
        return logFile;
    }

    private ConceptSegException failure(String what) {
        String tail = String.join(System.lineSeparator(), lastLines(8));
        return new ConceptSegException(Kind.UNAVAILABLE, "The ConceptSeg server " + what + ". Its last words:"
            + System.lineSeparator() + (tail.isEmpty() ? "(none)" : tail) + System.lineSeparator() + "Command: "
            + String.join(" ", command) + System.lineSeparator() + "Log: " + logFile);
    }

    private void readLog() {
        try (BufferedReader reader =
                 new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
             Writer log = openLog()) {
            for (String line = reader.readLine(); line != null; line = reader.readLine()) {
                if (line.startsWith("READY")) {
                    ready.countDown();
                }
                synchronized (lines) {
                    lines.add(line);
                    if (lines.size() > KEPT_LINES) {
                        lines.remove();
                    }
                }
                log.write(line + System.lineSeparator());
                log.flush();
            }
        } catch (IOException closed) {
            // the process ended, or the disk is full: the lines in memory remain
        } finally {
            ended.countDown();
        }
    }

    private Writer openLog() throws IOException {
        try {
            return Files.newBufferedWriter(logFile, StandardCharsets.UTF_8);
        } catch (IOException notWritable) {
            return new BufferedWriter(Writer.nullWriter());
        }
    }
}
