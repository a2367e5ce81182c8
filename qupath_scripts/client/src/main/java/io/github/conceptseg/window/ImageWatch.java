package io.github.conceptseg.window;

import java.util.Collection;
import javafx.application.Platform;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.objects.hierarchy.events.PathObjectHierarchyEvent;
import qupath.lib.objects.hierarchy.events.PathObjectHierarchyListener;
import qupath.lib.objects.hierarchy.events.PathObjectSelectionListener;

/** Tells on the JavaFX thread that the objects of an image or the selection changed, until it is closed. */
final class ImageWatch implements PathObjectHierarchyListener, PathObjectSelectionListener, AutoCloseable {
    private final PathObjectHierarchy hierarchy;
    private final Runnable onChange;
    private final Runnable onSelection;

    ImageWatch(PathObjectHierarchy hierarchy, Runnable onChange, Runnable onSelection) {
        this.hierarchy = hierarchy;
        this.onChange = onChange;
        this.onSelection = onSelection;
        hierarchy.addListener(this);
        hierarchy.getSelectionModel().addPathObjectSelectionListener(this);
    }

    @Override
    public void hierarchyChanged(PathObjectHierarchyEvent event) {
        if (!event.isChanging()) {
            tell(onChange);
        }
    }

    @Override
    public void selectedPathObjectChanged(PathObject selected, PathObject before, Collection<PathObject> all) {
        tell(onSelection);
    }

    @Override
    public void close() {
        hierarchy.removeListener(this);
        hierarchy.getSelectionModel().removePathObjectSelectionListener(this);
    }

    private static void tell(Runnable listener) {
        if (Platform.isFxApplicationThread()) {
            listener.run();
        } else {
            Platform.runLater(listener);
        }
    }
}
