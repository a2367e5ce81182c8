package qupath.lib.gui.scripting;

import java.util.Collection;
import qupath.lib.scripting.QP;

public class QPEx extends QP {
    public static native Collection<Class<?>> getCoreClasses();
}
