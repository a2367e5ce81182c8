package qupath.lib.measurements;

import java.util.Map;

public interface MeasurementList extends AutoCloseable {
    void put(String name, double value);

    double get(String name);

    Map<String, Number> asMap();

    @Override
    void close();
}
