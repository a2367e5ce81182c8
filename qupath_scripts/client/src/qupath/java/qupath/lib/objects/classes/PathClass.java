package qupath.lib.objects.classes;

public final class PathClass {
    public static native PathClass getNullClass();

    public static native PathClass fromString(String name, Integer colour);

    public native Integer getColor();

    public native void setColor(Integer colour);

    public static class StandardPathClasses {
        public static final PathClass TUMOR = null;
    }
}
