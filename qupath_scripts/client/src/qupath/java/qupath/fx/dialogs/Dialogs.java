package qupath.fx.dialogs;

public class Dialogs {
    public static native void showErrorNotification(String title, String message);

    public static native void showWarningNotification(String title, String message);

    public static native void showInfoNotification(String title, String message);
}
