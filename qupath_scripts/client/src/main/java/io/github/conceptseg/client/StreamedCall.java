package io.github.conceptseg.client;

import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import io.grpc.stub.StreamObserver;
import java.util.ArrayDeque;
import java.util.Iterator;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import java.util.function.Function;

/**
 * A call with a stream of requests and a stream of events, driven by the thread that wants the result.
 *
 * <p>Requests are taken from the iterator only while the connection takes them, so that a region never piles up in
 * memory. Events are handed to the consumer on the caller's own thread.
 */
final class StreamedCall<Q, E> {
    /** A working server reports at least once per second; one that is silent for so long is gone or hangs. */
    private static final long SILENCE_SECONDS = 120;

    private static final long POLL_MILLISECONDS = 50;

    private final ServerAddress server;
    private final BooleanSupplier cancelled;
    private final ReentrantLock lock = new ReentrantLock();
    private final Condition changed = lock.newCondition();
    private final ArrayDeque<E> events = new ArrayDeque<>();
    private ClientCallStreamObserver<Q> requests;
    private Throwable failure;
    private boolean finished;
    private long silentNanos; // time spent waiting here: a suspended computer does not count

    StreamedCall(ServerAddress server, BooleanSupplier cancelled) {
        this.server = server;
        this.cancelled = cancelled;
    }

    /** Send everything, hand out every event; returns when the server has ended the call with OK. */
    void run(Function<StreamObserver<E>, StreamObserver<Q>> start, Iterator<? extends Q> toSend, Consumer<E> onEvent) {
        start.apply(new Events());
        boolean complete = false;
        try {
            boolean halfClosed = false;
            while (true) {
                if (cancelled.getAsBoolean() || Thread.currentThread().isInterrupted()) {
                    throw ConceptSegException.cancelled();
                }
                handOut(onEvent);
                if (isFinished()) {
                    break;
                }
                if (halfClosed || !requests.isReady()) {
                    await();
                } else if (toSend.hasNext()) {
                    requests.onNext(toSend.next());
                    restartSilence();
                } else {
                    requests.onCompleted();
                    halfClosed = true;
                    restartSilence();
                }
            }
            handOut(onEvent);
            if (failure != null) {
                throw StatusErrors.of(failure, server);
            }
            complete = true;
        } finally {
            if (!complete && !isFinished()) {
                requests.cancel("The caller stopped.", null);
            }
        }
    }

    private void restartSilence() {
        lock.lock();
        try {
            silentNanos = 0; // reading pixels may take long: only the server's own silence counts
        } finally {
            lock.unlock();
        }
    }

    private boolean isFinished() {
        lock.lock();
        try {
            return finished && events.isEmpty();
        } finally {
            lock.unlock();
        }
    }

    private void await() {
        lock.lock();
        try {
            if (events.isEmpty() && !finished) {
                long before = System.nanoTime();
                changed.await(POLL_MILLISECONDS, TimeUnit.MILLISECONDS);
                silentNanos += Math.min(System.nanoTime() - before, TimeUnit.SECONDS.toNanos(1));
            }
            if (!finished && events.isEmpty() && silentNanos > TimeUnit.SECONDS.toNanos(SILENCE_SECONDS)) {
                throw new ConceptSegException(ConceptSegException.Kind.UNAVAILABLE, "The ConceptSeg server at " + server
                    + " has been silent for " + SILENCE_SECONDS + " s. Nothing was changed. Restart it: its log says "
                    + "what it was doing.");
            }
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        } finally {
            lock.unlock();
        }
    }

    private void handOut(Consumer<E> onEvent) {
        while (true) {
            E event;
            lock.lock();
            try {
                event = events.poll();
            } finally {
                lock.unlock();
            }
            if (event == null) {
                return;
            }
            onEvent.accept(event);
        }
    }

    private final class Events implements ClientResponseObserver<Q, E> {
        @Override
        public void beforeStart(ClientCallStreamObserver<Q> stream) {
            requests = stream;
            stream.setOnReadyHandler(this::signal);
        }

        @Override
        public void onNext(E event) {
            lock.lock();
            try {
                events.add(event);
                silentNanos = 0;
                changed.signalAll();
            } finally {
                lock.unlock();
            }
        }

        @Override
        public void onError(Throwable error) {
            end(error);
        }

        @Override
        public void onCompleted() {
            end(null);
        }

        private void end(Throwable error) {
            lock.lock();
            try {
                failure = error;
                finished = true;
                changed.signalAll();
            } finally {
                lock.unlock();
            }
        }

        private void signal() {
            lock.lock();
            try {
                changed.signalAll();
            } finally {
                lock.unlock();
            }
        }
    }
}
