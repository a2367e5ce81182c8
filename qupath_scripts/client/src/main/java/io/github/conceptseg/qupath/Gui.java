package io.github.conceptseg.qupath;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.function.Supplier;
import javafx.application.Platform;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.images.ImageData;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.regions.ImagePlane;

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

    /** The plane of an image that its viewer shows; without a viewer, the one that QuPath shows first. */
    static ImagePlane planeShown(ImageServer<?> server) {
        QuPathGUI gui = current();
        boolean shown = gui != null && gui.getViewer() != null && gui.getViewer().getServer() == server;
        return shown ? gui.getViewer().getImagePlane()
            : ImagePlane.getPlane(server.nZSlices() / 2, server.nTimepoints() / 2);
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
