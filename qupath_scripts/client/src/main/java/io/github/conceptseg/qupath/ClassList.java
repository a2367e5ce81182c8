package io.github.conceptseg.qupath;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.viewer.OverlayOptions;
import qupath.lib.images.ImageData;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.projects.Project;
import qupath.lib.scripting.QP;

/** The classes that QuPath lists, which belong to the project, and which of them its window draws. */
public final class ClassList {
    private ClassList() {
    }

    /** Add those that are missing. */
    public static void extend(Collection<PathClass> classes) {
        QuPathGUI gui = Gui.current();
        Project<?> project = QP.getProject();
        if (gui != null) {
            List<PathClass> listed = gui.getAvailablePathClasses();
            Gui.onFx(() -> listed.addAll(missing(listed, classes)));
        } else if (project != null) {
            List<PathClass> all = new ArrayList<>(project.getPathClasses());
            if (all.addAll(missing(all, classes))) {
                project.setPathClasses(all);
            }
        }
    }

    /** Hide classes (true) or draw them again (false), if a window shows the image. */
    public static void hide(ImageData<?> imageData, Map<String, Boolean> hidden) {
        QuPathGUI gui = Gui.showing(imageData);
        if (gui != null) {
            Gui.onFx(() -> {
                hidden.forEach((name, hide) -> hide(gui.getOverlayOptions(), PathClass.fromString(name, null), hide));
                return null;
            });
        }
    }

    /** Hide a class (true) or draw it again (false); on the JavaFX thread. */
    public static void hide(OverlayOptions options, PathClass pathClass, boolean hide) {
        options.setPathClassHidden(pathClass, hide);
        // QuPath 0.6.0 can be told to show the chosen classes instead, which turns the meaning of the setter round.
        if (options.isPathClassHidden(pathClass) != hide) {
            options.setPathClassHidden(pathClass, !hide);
        }
    }

    private static List<PathClass> missing(Collection<PathClass> present, Collection<PathClass> wanted) {
        return wanted.stream().filter(pathClass -> !present.contains(pathClass)).toList();
    }
}
