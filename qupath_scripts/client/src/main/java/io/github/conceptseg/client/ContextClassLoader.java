package io.github.conceptseg.client;

import java.util.function.Supplier;

/** Runs code with this jar's class loader as the thread's: scripts run with one that may not see the jar. */
final class ContextClassLoader {
    private ContextClassLoader() {
    }

    static <T> T call(Supplier<T> action) {
        Thread thread = Thread.currentThread();
        ClassLoader before = thread.getContextClassLoader();
        thread.setContextClassLoader(ContextClassLoader.class.getClassLoader());
        try {
            return action.get();
        } finally {
            thread.setContextClassLoader(before);
        }
    }
}
