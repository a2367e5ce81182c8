package qupath.lib.projects;

import java.nio.file.Path;
import java.util.Collection;
import java.util.List;
import qupath.lib.objects.classes.PathClass;

public interface Project<T> {
    Path getPath();

    List<PathClass> getPathClasses();

    boolean setPathClasses(Collection<? extends PathClass> pathClasses);
}
