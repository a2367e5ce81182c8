package qupath.lib.gui.prefs;

import javafx.beans.property.IntegerProperty;
import javafx.beans.property.StringProperty;

public class PathPrefs {
    public static native StringProperty createPersistentPreference(String name, String defaultValue);

    public static native IntegerProperty maxUndoHierarchySizeProperty();
}
