package io.github.conceptseg.qupath;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.function.Supplier;
import javafx.application.Platform;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.images.ImageData;

/** QuPath's window, if there is one. */
final class Gui {
    private Gui() {
    }

    /** The window that shows this very image; null headless, and in "Run for project", which loads its own copies. */
    static QuPathGUI showing(ImageData<?> imageData) {
        QuPathGUI gui = current();
        return gui != null && gui.getImageData() == imageData ? gui : null;
    }

    /** The window; null headless. */
    static QuPathGUI current() {
        try {
            return QuPathGUI.getInstance();
        } catch (LinkageError withoutJavaFx) {
            return null;
        }
    }

    static boolean onFxThread() {
        return Platform.isFxApplicationThread();
    }

    /** Run on the JavaFX thread and wait. */
    static <T> T onFx(Supplier<T> action) {
        if (Platform.isFxApplicationThread()) {
            return action.get();
        }
        CompletableFuture<T> result = new CompletableFuture<>();
        Platform.runLater(() -> {
            try {
                result.complete(action.get());
            } catch (RuntimeException | Error error) {
                result.completeExceptionally(error);
            }
        });
        try {
            return result.join();
        } catch (CompletionException error) {
            if (error.getCause() instanceof RuntimeException known) {
                throw known;
            }
            throw error;
        }
    }
}
