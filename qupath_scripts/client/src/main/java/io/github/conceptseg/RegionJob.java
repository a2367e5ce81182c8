package io.github.conceptseg;

import io.github.conceptseg.qupath.Parents;
import java.awt.image.BufferedImage;
import java.util.Collection;
import java.util.List;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;

/** What jobs on regions of an image have in common; T is the job itself. */
public abstract class RegionJob<T extends RegionJob<T>> {
    final ImageData<BufferedImage> imageData;
    private Parents which = Parents.SELECTED;
    private List<PathObject> given;
    double pixelSizeUm = Double.NaN;

    RegionJob(ImageData<BufferedImage> imageData) {
        this.imageData = ConceptSeg.require(imageData);
    }

    abstract T self();

    /** The selected annotations and TMA cores; what is meant when nothing is said. */
    public T selected() {
        return choose(Parents.SELECTED);
    }

    /** All area annotations that are not results. */
    public T annotations() {
        return choose(Parents.ANNOTATIONS);
    }

    /** All TMA cores that are not missing. */
    public T tmaCores() {
        return choose(Parents.TMA_CORES);
    }

    /** The whole image. */
    public T wholeImage() {
        return choose(Parents.WHOLE_IMAGE);
    }

    /** These objects; the root object stands for the whole image. */
    public T parents(Collection<? extends PathObject> parents) {
        given = List.copyOf(parents);
        return self();
    }

    /** µm per full-resolution px, where the image has none or a wrong one. */
    public T pixelSizeUm(double micrometres) {
        pixelSizeUm = micrometres;
        return self();
    }

    List<PathObject> findParents() {
        return given == null ? which.find(imageData) : given;
    }

    String parentsScript() {
        return given == null ? which.script() : Parents.SELECTED.script();
    }

    private T choose(Parents parents) {
        which = parents;
        given = null;
        return self();
    }
}
