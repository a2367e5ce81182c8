package io.github.conceptseg;

import qupath.lib.objects.PathObject;

/** One class in one parent. */
public final class SummaryRow {
    private final String parent;
    private final PathObject parentObject;
    private final String className;
    private final String concepts;
    private final int count;
    private final double areaUm2;
    private final boolean calibrated;
    private final double percent;

    SummaryRow(String parent, PathObject parentObject, String className, String concepts, int count, double areaUm2,
            boolean calibrated, double percent) {
        this.parent = parent;
        this.parentObject = parentObject;
        this.className = className;
        this.concepts = concepts;
        this.count = count;
        this.areaUm2 = areaUm2;
        this.calibrated = calibrated;
        this.percent = percent;
    }

    /** Name of the parent; {@code Image} for the whole image. */
    public String getParent() {
        return parent;
    }

    /** The parent. */
    public PathObject getParentObject() {
        return parentObject;
    }

    /** Name of the class. */
    public String getClassName() {
        return className;
    }

    /** The class's concepts, such as {@code 3} or {@code 3,7}. */
    public String getConcepts() {
        return concepts;
    }

    /** Number of annotations. */
    public int getCount() {
        return count;
    }

    /** Area in µm²; in px² if not {@link #isCalibrated()}. */
    public double getAreaUm2() {
        return areaUm2;
    }

    /** Whether the image has a pixel size. */
    public boolean isCalibrated() {
        return calibrated;
    }

    /** Share of the parent's labelled area in %. */
    public double getPercent() {
        return percent;
    }
}
