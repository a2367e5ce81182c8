package qupath.lib.images.servers;

import java.net.URI;

public interface ImageServerBuilder<T> {
    interface ServerBuilder<T> {
    }

    abstract class AbstractServerBuilder<T> implements ServerBuilder<T> {
    }

    class DefaultImageServerBuilder<T> extends AbstractServerBuilder<T> {
        public native URI getURI();

        public native String[] getArgs();
    }
}
