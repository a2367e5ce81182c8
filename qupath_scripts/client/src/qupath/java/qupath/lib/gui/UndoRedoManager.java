package qupath.lib.gui;

public class UndoRedoManager {
    public native boolean undoOnce();

    public native boolean redoOnce();
}
