package qupath.lib.scripting;

import java.awt.image.BufferedImage;
import qupath.lib.projects.Project;

public class QP {
    public static native Project<BufferedImage> getProject();
}
