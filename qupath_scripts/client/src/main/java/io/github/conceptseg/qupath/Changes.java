package io.github.conceptseg.qupath;

import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.function.Supplier;
import qupath.lib.gui.prefs.PathPrefs;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;

/** Changes of an image's objects that QuPath sees as one event, and can undo in one step. */
public final class Changes {
    private final List<PathObject> removed = new ArrayList<>();
    private final List<Addition> additions = new ArrayList<>();
    private final Set<PathObject> toLock = new LinkedHashSet<>();

    private record Addition(PathObject parent, List<PathObject> children) {
    }

    /** Remove results. */
    public void remove(Collection<PathObject> results) {
        removed.addAll(results);
    }

    /** Add children to a parent. */
    public void add(PathObject parent, List<PathObject> children) {
        additions.add(new Addition(parent, children));
    }

    /** Lock an object, so that it cannot be moved away from its children. */
    public void lock(PathObject object) {
        toLock.add(object);
    }

    /** How many objects are added. */
    public int added() {
        return additions.stream().mapToInt(addition -> addition.children().size()).sum();
    }

    /** How many objects are removed. */
    public int removed() {
        return removed.size();
    }

    /** Apply everything. */
    public void apply(ImageData<?> imageData) {
        onOwner(imageData, () -> {
            applyNow(imageData.getHierarchy());
            return null;
        });
    }

    /** Whether QuPath could undo it afterwards; true headless, where nobody asks. */
    public static boolean canUndo(ImageData<?> imageData, int objects) {
        return Gui.showing(imageData) == null || objects <= PathPrefs.maxUndoHierarchySizeProperty().get();
    }

    /** In QuPath's window on its own thread, which reads the objects to paint them. */
    static <T> T onOwner(ImageData<?> imageData, Supplier<T> action) {
        return Gui.showing(imageData) == null ? action.get() : Gui.onFx(action);
    }

    private void applyNow(PathObjectHierarchy hierarchy) {
        Set<PathObject> changed = new LinkedHashSet<>();
        for (PathObject result : removed) {
            if (result.getParent() != null) {
                changed.add(result.getParent());
            }
        }
        deselectRemoved(hierarchy);
        Results.detach(removed);
        if (!additions.isEmpty()) {
            changed.clear(); // the new objects are enough, and all listeners need
        }
        for (Addition addition : additions) {
            addition.parent().addChildObjects(addition.children());
            changed.addAll(addition.children());
            changed.add(addition.parent());
        }
        for (PathObject object : toLock) {
            object.setLocked(true);
        }
        if (!changed.isEmpty()) {
            hierarchy.fireObjectsChangedEvent(this, new ArrayList<>(changed), false);
        }
    }

    private void deselectRemoved(PathObjectHierarchy hierarchy) {
        Set<PathObject> selected = new LinkedHashSet<>(hierarchy.getSelectionModel().getSelectedObjects());
        if (selected.removeAll(new LinkedHashSet<>(removed))) {
            hierarchy.getSelectionModel().setSelectedObjects(selected, null);
        }
    }
}
