package qupath.lib.gui;

import java.awt.image.BufferedImage;
import javafx.beans.property.ReadOnlyObjectProperty;
import javafx.collections.ObservableList;
import javafx.scene.control.MenuItem;
import javafx.stage.Stage;
import qupath.lib.gui.panes.PreferencePane;
import qupath.lib.gui.viewer.OverlayOptions;
import qupath.lib.gui.viewer.QuPathViewer;
import qupath.lib.images.ImageData;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.projects.Project;

public class QuPathGUI {
    public static native QuPathGUI getInstance();

    public native ImageData<BufferedImage> getImageData();

    public native ReadOnlyObjectProperty<ImageData<BufferedImage>> imageDataProperty();

    public native Project<BufferedImage> getProject();

    public native Stage getStage();

    public native QuPathViewer getViewer();

    public native UndoRedoManager getUndoRedoManager();

    public native MenuItem installCommand(String path, Runnable runnable);

    public native PreferencePane getPreferencePane();

    public native ObservableList<PathClass> getAvailablePathClasses();

    public native OverlayOptions getOverlayOptions();
}
