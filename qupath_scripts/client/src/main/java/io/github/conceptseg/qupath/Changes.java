package io.github.conceptseg.qupath;

import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Supplier;
import qupath.lib.gui.prefs.PathPrefs;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;

/** Changes of an image's objects that QuPath sees as one event, and can undo in one step. */
public final class Changes {
    private final List<PathObject> removed = new ArrayList<>();
    private final List<Addition> additions = new ArrayList<>();
    private final List<Merge> merges = new ArrayList<>();
    private final Map<PathObject, PathClass> toClassify = new LinkedHashMap<>();
    private final Map<PathObject, Map<String, String>> toDescribe = new LinkedHashMap<>();
    private final Map<PathObject, Integer> toPaint = new LinkedHashMap<>();
    private final Map<PathClass, Integer> colours = new LinkedHashMap<>();
    private final Set<PathObject> toRepaint = new LinkedHashSet<>();
    private final Set<PathObject> toLock = new LinkedHashSet<>();

    private record Addition(PathObject parent, List<PathObject> children) {
    }

    private record Merge(List<PathObject> members, PathObject whole) {
    }

    /** Remove results. */
    public void remove(Collection<PathObject> results) {
        removed.addAll(results);
    }

    /** Add children to a parent. */
    public void add(PathObject parent, List<PathObject> children) {
        additions.add(new Addition(parent, children));
    }

    /** Put one object in the place of several that share a parent; what lies in them goes into it. */
    public void merge(List<PathObject> members, PathObject whole) {
        merges.add(new Merge(members, whole));
    }

    /** Give an object another class. */
    public void classify(PathObject object, PathClass pathClass) {
        toClassify.put(object, pathClass);
    }

    /** Set a metadata value of an object; null takes it away. */
    public void describe(PathObject object, String key, String value) {
        toDescribe.computeIfAbsent(object, ignored -> new LinkedHashMap<>()).put(key, value);
    }

    /** Draw an object in a colour of its own, 0xRRGGBB; null for that of its class. */
    public void paint(PathObject object, Integer rgb) {
        toPaint.put(object, rgb == null ? null : ConceptLabel.opaque(rgb));
    }

    /** Give a class another colour, 0xRRGGBB, that of these objects. */
    public void colour(PathClass pathClass, int rgb, Collection<PathObject> objects) {
        colours.put(pathClass, ConceptLabel.opaque(rgb));
        toRepaint.addAll(objects);
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

    /** How many objects get another class or colour, merged ones included. */
    public int changed() {
        Set<PathObject> changed = new LinkedHashSet<>(toClassify.keySet());
        changed.addAll(toRepaint);
        merges.forEach(merge -> merge.members().forEach(changed::remove));
        return changed.size() + merges.size();
    }

    /** How many objects go into others. */
    public int merged() {
        return merges.stream().mapToInt(merge -> merge.members().size()).sum();
    }

    /** How many objects are made of others. */
    public int merges() {
        return merges.size();
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
        Set<PathObject> gone = new LinkedHashSet<>(removed);
        merges.forEach(merge -> gone.addAll(merge.members()));
        Set<PathObject> changed = new LinkedHashSet<>();
        for (PathObject result : removed) {
            if (result.getParent() != null) {
                changed.add(result.getParent());
            }
        }
        deselect(hierarchy, gone);
        Results.detach(removed);
        if (!additions.isEmpty()) {
            changed.clear(); // the new objects are enough, and all listeners need
        }
        for (Addition addition : additions) {
            addition.parent().addChildObjects(addition.children());
            changed.addAll(addition.children());
            changed.add(addition.parent());
        }
        toClassify.forEach((object, pathClass) -> {
            Integer own = object.getColor(); // which QuPath forgets with the class
            object.setPathClass(pathClass);
            object.setColor(own);
        });
        toDescribe.forEach((object, values) -> values.forEach((key, value) -> describeNow(object, key, value)));
        toPaint.forEach(PathObject::setColor);
        colours.forEach(PathClass::setColor);
        changed.addAll(toClassify.keySet());
        changed.addAll(toDescribe.keySet());
        changed.addAll(toPaint.keySet());
        changed.addAll(toRepaint);
        for (Merge merge : merges) {
            mergeNow(merge);
            changed.add(merge.whole());
        }
        changed.removeAll(gone);
        for (PathObject object : toLock) {
            object.setLocked(true);
        }
        if (!changed.isEmpty()) {
            hierarchy.fireObjectsChangedEvent(this, new ArrayList<>(changed), false);
        }
    }

    private static void describeNow(PathObject object, String key, String value) {
        if (value == null) {
            object.getMetadata().remove(key);
        } else {
            object.getMetadata().put(key, value);
        }
    }

    private static void mergeNow(Merge merge) {
        PathObject parent = merge.members().get(0).getParent(); // as it is now: it may itself have been merged
        for (PathObject member : merge.members()) {
            List<PathObject> inside = new ArrayList<>(member.getChildObjects());
            member.removeChildObjects(inside);
            merge.whole().addChildObjects(inside);
        }
        parent.removeChildObjects(new LinkedHashSet<>(merge.members()));
        parent.addChildObjects(List.of(merge.whole()));
    }

    private static void deselect(PathObjectHierarchy hierarchy, Set<PathObject> gone) {
        Set<PathObject> selected = new LinkedHashSet<>(hierarchy.getSelectionModel().getSelectedObjects());
        if (selected.removeAll(gone)) {
            hierarchy.getSelectionModel().setSelectedObjects(selected, null);
        }
    }
}
