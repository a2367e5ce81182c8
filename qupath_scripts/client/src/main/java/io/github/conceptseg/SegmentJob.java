package io.github.conceptseg;

import com.google.protobuf.ByteString;
import io.github.conceptseg.client.ConceptSegClient;
import io.github.conceptseg.client.ConceptSegException;
import io.github.conceptseg.client.ConceptSegException.Kind;
import io.github.conceptseg.qupath.Changes;
import io.github.conceptseg.qupath.ImageFile;
import io.github.conceptseg.qupath.JobMonitor;
import io.github.conceptseg.qupath.ProgressText;
import io.github.conceptseg.qupath.ProjectLabels;
import io.github.conceptseg.qupath.Results;
import io.github.conceptseg.qupath.Segmenter;
import io.github.conceptseg.server.ServerLifecycle;
import io.github.conceptseg.v1.SegmentOptions;
import io.github.conceptseg.v1.SegmentSummary;
import io.github.conceptseg.v1.StageSeconds;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;
import qupath.lib.plugins.workflow.DefaultScriptableWorkflowStep;
import qupath.lib.regions.ImagePlane;

/** Segments regions of an image into concept annotations; settings that are not made are the server's. */
public final class SegmentJob extends RegionJob<SegmentJob> {
    private final SegmentOptions.Builder options = SegmentOptions.newBuilder();
    private final Map<String, String> settings = new LinkedHashMap<>(); // as a script would write them
    private String dictionaryFile;
    private boolean readOnServer;
    private boolean lockParent = true;
    private boolean replace = true;
    private boolean workflowStep = true;

    SegmentJob(ImageData<BufferedImage> imageData) {
        super(imageData);
    }

    @Override
    SegmentJob self() {
        return this;
    }

    /** Name of the encoder. */
    public SegmentJob encoder(String name) {
        options.setEncoder(name);
        return set("encoder", name);
    }

    /** Name of a dictionary that the server has. */
    public SegmentJob dictionary(String name) {
        options.getDictionaryBuilder().setName(name);
        return set("dictionary", name);
    }

    /** A dictionary file of this computer. */
    public SegmentJob dictionaryFile(String path) {
        dictionaryFile = path;
        return set("dictionaryFile", path);
    }

    /** Number of concepts of the dictionary. */
    public SegmentJob k(int concepts) {
        options.getDictionaryBuilder().setK(concepts);
        return set("k", concepts);
    }

    /** {@code projection}, {@code learned}, {@code matched}, {@code nearest} or {@code reference}. */
    public SegmentJob method(String name) {
        options.getSettingsBuilder().setMethod(name);
        return set("method", name);
    }

    /** Concepts to learn, for {@code learned} and {@code matched}. */
    public SegmentJob nConcepts(int concepts) {
        options.getSettingsBuilder().setNConcepts(concepts);
        return set("nConcepts", concepts);
    }

    /** Seed of whatever is random. */
    public SegmentJob seed(int seed) {
        options.getSettingsBuilder().setSeed(seed);
        return set("seed", seed);
    }

    /** Side of the encoder's tiles in analysed px. */
    public SegmentJob tilePx(int px) {
        options.getSettingsBuilder().setTilePx(px);
        return set("tilePx", px);
    }

    /** Segment background as well. */
    public SegmentJob background(boolean segment) {
        options.getSettingsBuilder().setWholeRegion(segment);
        return set("background", segment);
    }

    /** Red, green and blue of bare glass, 0 to 255 each, where what is found in the image is wrong. */
    public SegmentJob glassColour(int red, int green, int blue) {
        options.getSettingsBuilder().setGlassColourRgb(ConceptSeg.rgb(red, green, blue));
        settings.put("glassColour", red + ", " + green + ", " + blue);
        return this;
    }

    /** How much stain tissue must have, as a factor of the usual: 0.5 takes half of it, 2 leaves pale tissue out. */
    public SegmentJob tissueStrictness(double factor) {
        options.getSettingsBuilder().setTissueStrictness(factor);
        return set("tissueStrictness", factor);
    }

    /** Smaller areas are given to their neighbours, in µm². */
    public SegmentJob minAreaUm2(double area) {
        options.getSettingsBuilder().setMinAreaUm2(area);
        return set("minAreaUm2", area);
    }

    /** Smaller holes in the tissue are filled, in µm². */
    public SegmentJob minHoleAreaUm2(double area) {
        options.getSettingsBuilder().setMinHoleAreaUm2(area);
        return set("minHoleAreaUm2", area);
    }

    /** How far outlines may move when simplified, in analysed px; 0 for the exact pixel outlines. */
    public SegmentJob tolerancePx(double px) {
        options.getSettingsBuilder().setTolerancePx(px);
        return set("tolerancePx", px);
    }

    @Override
    public SegmentJob pixelSizeUm(double micrometres) {
        super.pixelSizeUm(micrometres);
        return set("pixelSizeUm", micrometres);
    }

    /**
     * Let the server read the image's file itself (false): the path must mean the same file there, below a folder
     * that {@code conceptseg serve --root} names. The results are the same.
     */
    public SegmentJob readOnServer(boolean itself) {
        readOnServer = itself;
        return set("readOnServer", itself);
    }

    /** Lock the parents (true), so that they cannot be moved away from their results. */
    public SegmentJob lockParent(boolean lock) {
        lockParent = lock;
        return set("lockParent", lock);
    }

    /** Remove our earlier results of the same parents (true). */
    public SegmentJob replace(boolean earlier) {
        replace = earlier;
        return set("replace", earlier);
    }

    /** Record the run in the image's workflow (true). */
    public SegmentJob addWorkflowStep(boolean add) {
        workflowStep = add;
        return this;
    }

    /** The script that repeats this job. */
    public String script() {
        StringBuilder script = new StringBuilder("io.github.conceptseg.ConceptSeg.segment(getCurrentImageData())\n    .");
        script.append(parentsScript());
        settings.forEach((name, value) -> script.append("\n    .").append(name).append('(').append(value).append(')'));
        return script.append("\n    .run()\n").toString();
    }

    /** Do it. */
    public SegmentReport run() {
        long started = System.nanoTime();
        List<PathObject> parents = findParents();
        readDictionaryFile();
        // What can fail here does so before a server is started in vain.
        ProjectLabels labels = ProjectLabels.ofOpenProject();
        Segmenter.requirePixelSize(imageData.getServer(), pixelSizeUm);
        ImageFile file = readOnServer ? ImageFile.of(imageData.getServer()) : null;
        SegmentReport report = new SegmentReport();
        Changes changes = new Changes();
        ConceptSegException failure = null;
        int failed = 0;
        try (JobMonitor monitor = JobMonitor.open(imageData, "ConceptSeg")) {
            monitor.progress(0, "Connecting to the server");
            ConceptSegClient client = ServerLifecycle.client(text -> monitor.progress(0, text), monitor::cancelled);
            Segmenter segmenter = new Segmenter(client, imageData.getServer(), pixelSizeUm, labels);
            for (int i = 0; i < parents.size(); i++) {
                PathObject parent = parents.get(i);
                try {
                    segment(segmenter, parent, file, i, parents.size(), monitor, changes, report);
                } catch (ConceptSegException error) {
                    if (error.isCancelled() || error.isUnavailable()) {
                        throw error;
                    }
                    failure = error;
                    failed++;
                    report.line(ConceptSeg.label(parent) + ": failed. " + error.getMessage());
                }
            }
            monitor.progress(1, "Adding " + Counted.of(changes.added(), "annotation"));
            commit(changes, report);
        }
        report.finish(changes.added(), changes.removed(), (System.nanoTime() - started) / 1e9);
        report.log();
        if (failure != null) {
            throw new ConceptSegException(failure.getKind(), (parents.size() == 1 ? "" : failed + " of "
                + Counted.of(parents.size(), "region") + " failed; the others have their results. The last error: ")
                + failure.getMessage(), failure);
        }
        return report;
    }

    private void segment(Segmenter segmenter, PathObject parent, ImageFile file, int index, int count, JobMonitor monitor,
            Changes changes, SegmentReport report) {
        String prefix = count == 1 ? "" : "Region " + (index + 1) + " of " + count + ": ";
        Segmenter.Segmented segmented = segmenter.segment(parent, file, options.build(),
            progress -> monitor.progress((index + ProgressText.fraction(progress)) / count,
                prefix + ProgressText.words(progress)), monitor::cancelled);
        if (replace) {
            List<PathObject> earlier = Results.in(parent, segmented.plane());
            long reviewed = earlier.stream().filter(ReviewFilter.OPEN.negate()).count();
            if (reviewed > 0) {
                report.line(ConceptSeg.label(parent) + ": " + Counted.of(reviewed, "reviewed annotation")
                    + " replaced. Undo brings back what people said about them.");
            }
            changes.remove(earlier);
        }
        changes.add(parent, segmented.objects());
        if (lockParent && !parent.isRootObject()) {
            changes.lock(parent);
        }
        SegmentSummary summary = segmented.outcome().summary();
        double seconds = summary.getStagesList().stream().mapToDouble(StageSeconds::getSeconds).sum();
        report.parent(ConceptSeg.label(parent) + plane(segmented.plane()), segmented.objects().size(), summary, seconds);
    }

    /** Which slice of a stack was segmented, for people; nothing for an image with one. */
    private String plane(ImagePlane plane) {
        return imageData.getServer().nZSlices() > 1 ? " (z-slice " + plane.getZ() + ")" : "";
    }

    private void commit(Changes changes, SegmentReport report) {
        changes.apply(imageData);
        if (workflowStep && report.getParents() > 0) {
            imageData.getHistoryWorkflow().addStep(
                new DefaultScriptableWorkflowStep("ConceptSeg: segment", new LinkedHashMap<>(settings), script()));
        }
        if (!Changes.canUndo(imageData, changes.added())) {
            report.line("QuPath keeps no undo step for so many objects (its preference 'Maximum undo hierarchy size'); "
                + "'Remove ConceptSeg results' takes them away.");
        }
    }

    private void readDictionaryFile() {
        if (dictionaryFile == null) {
            return;
        }
        try {
            options.getDictionaryBuilder().setFile(ByteString.copyFrom(Files.readAllBytes(Path.of(dictionaryFile))));
        } catch (IOException error) {
            throw new ConceptSegException(Kind.BAD_REQUEST, "The dictionary file " + dictionaryFile
                + " cannot be read. Check the path; dictionaries are .safetensors files.", error);
        }
    }

    private SegmentJob set(String name, Object value) {
        settings.put(name, value instanceof String text ? quoted(text) : String.valueOf(value));
        return this;
    }

    private static String quoted(String text) {
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'";
    }
}
