package io.github.conceptseg.qupath;

import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.v1.OutputRect;
import io.github.conceptseg.v1.PixelTile;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Tiles in order, read by a few threads a little ahead of whoever takes them. */
final class TilesAhead implements Iterator<PixelTile>, AutoCloseable {
    private static final int THREADS = Math.max(1, Math.min(4, Runtime.getRuntime().availableProcessors()));
    private static final int AHEAD = THREADS + 2;

    private final ExecutorService threads = Executors.newFixedThreadPool(THREADS, task -> {
        Thread thread = new Thread(task, "ConceptSeg pixels");
        thread.setDaemon(true);
        return thread;
    });
    private final Deque<Future<PixelTile>> waiting = new ArrayDeque<>();
    private final Iterator<OutputRect> rects;
    private final RegionPixels pixels;

    TilesAhead(RegionPixels pixels, List<OutputRect> rects) {
        this.pixels = pixels;
        this.rects = rects.iterator();
        fill();
    }

    @Override
    public boolean hasNext() {
        return !waiting.isEmpty();
    }

    @Override
    public PixelTile next() {
        try {
            PixelTile tile = waiting.remove().get();
            fill();
            return tile;
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw ConceptSegException.cancelled();
        } catch (ExecutionException error) {
            if (error.getCause() instanceof RuntimeException known) {
                throw known;
            }
            throw new ConceptSegException(ConceptSegException.Kind.INTERNAL, "Reading pixels failed: "
                + error.getCause() + ". QuPath's log has the details.", error.getCause());
        }
    }

    @Override
    public void close() {
        threads.shutdownNow();
    }

    private void fill() {
        while (waiting.size() < AHEAD && rects.hasNext()) {
            OutputRect rect = rects.next();
            waiting.add(threads.submit(() -> pixels.read(rect)));
        }
    }
}
