package qupath.lib.scripting;

import java.util.Collection;
import qupath.lib.images.ImageData;
import qupath.lib.projects.Project;

public class ScriptParameters {
    public static native Builder builder();

    public static class Builder {
        public native Builder setDefaultImports(Collection<Class<?>> classes);

        public native Builder setDefaultStaticImports(Collection<Class<?>> classes);

        public native Builder setScript(String script);

        public native Builder setArgs(String[] args);

        public native Builder setProject(Project<?> project);

        public native Builder setImageData(ImageData<?> imageData);

        public native Builder useLogWriters();

        public native Builder doUpdateHierarchy(boolean update);

        public native ScriptParameters build() throws IllegalArgumentException;
    }
}
