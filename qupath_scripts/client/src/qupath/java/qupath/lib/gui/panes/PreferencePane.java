package qupath.lib.gui.panes;

import javafx.beans.property.Property;

public class PreferencePane {
    public native <T> void addPropertyPreference(
        Property<T> property, Class<? extends T> type, String name, String category, String description);
}
