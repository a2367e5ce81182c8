package qupath.lib.measurements;

public interface MeasurementList extends AutoCloseable {
    void put(String name, double value);

    double get(String name);

    @Override
    void close();
}
