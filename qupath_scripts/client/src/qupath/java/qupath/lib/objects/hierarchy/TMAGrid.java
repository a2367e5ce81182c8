package qupath.lib.objects.hierarchy;

import java.util.List;
import qupath.lib.objects.TMACoreObject;

public interface TMAGrid {
    List<TMACoreObject> getTMACoreList();
}
