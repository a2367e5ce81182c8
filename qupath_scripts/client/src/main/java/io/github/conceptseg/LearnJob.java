package io.github.conceptseg;

import io.github.conceptseg.qupath.JobMonitor;
import io.github.conceptseg.qupath.Learner;
import io.github.conceptseg.qupath.ProgressText;
import io.github.conceptseg.qupath.Segmenter;
import io.github.conceptseg.server.ServerLifecycle;
import io.github.conceptseg.v1.FitConceptsHeader;
import io.github.conceptseg.v1.FittedDictionary;
import java.awt.image.BufferedImage;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;

/** Learns concept dictionaries from regions of an image; the server keeps them. */
public final class LearnJob extends RegionJob<LearnJob> {
    private static final int DEFAULT_K = 16;

    private final FitConceptsHeader.Builder header = FitConceptsHeader.newBuilder().setSave(true);

    LearnJob(ImageData<BufferedImage> imageData) {
        super(imageData);
    }

    @Override
    LearnJob self() {
        return this;
    }

    /** Name of the encoder. */
    public LearnJob encoder(String name) {
        header.setEncoder(name);
        return this;
    }

    /** Numbers of concepts; one dictionary each. */
    public LearnJob ks(int... numbers) {
        return ks(Arrays.stream(numbers).boxed().toList());
    }

    /** Numbers of concepts; one dictionary each. */
    public LearnJob ks(Collection<Integer> numbers) {
        header.clearKs().addAllKs(numbers);
        return this;
    }

    /** Seed of sampling and clustering. */
    public LearnJob seed(int seed) {
        header.setSeed(seed);
        return this;
    }

    /** At most so many tokens per region. */
    public LearnJob tokensPerRegion(int tokens) {
        header.setTokensPerRegion(tokens);
        return this;
    }

    /** Red, green and blue of bare glass, 0 to 255 each, where what is found in the image is wrong. */
    public LearnJob glassColour(int red, int green, int blue) {
        header.setGlassColourRgb(ConceptSeg.rgb(red, green, blue));
        return this;
    }

    /** How much stain tissue must have, as a factor of the usual. */
    public LearnJob tissueStrictness(double factor) {
        header.setTissueStrictness(factor);
        return this;
    }

    /** The dictionaries become NAME-kK. */
    public LearnJob name(String name) {
        header.setName(name);
        return this;
    }

    /** Replace dictionaries of the same name. */
    public LearnJob overwrite(boolean replace) {
        header.setOverwrite(replace);
        return this;
    }

    /** A note that the dictionaries carry. */
    public LearnJob provenance(String key, String value) {
        header.putProvenance(key, value);
        return this;
    }

    /** Do it. */
    public LearnReport run() {
        long started = System.nanoTime();
        List<PathObject> parents = findParents();
        Segmenter.requirePixelSize(imageData.getServer(), pixelSizeUm);
        if (header.getKsCount() == 0) {
            header.addKs(DEFAULT_K);
        }
        if (!header.containsProvenance("image")) {
            header.putProvenance("image", imageData.getServer().getMetadata().getName());
        }
        try (JobMonitor monitor = JobMonitor.open(imageData, "ConceptSeg: learn concepts")) {
            monitor.progress(0, "Connecting to the server");
            var client = ServerLifecycle.client(text -> monitor.progress(0, text), monitor::cancelled);
            List<FittedDictionary> fitted = new Learner(client, imageData.getServer(), pixelSizeUm).learn(parents,
                header.build(), progress -> monitor.progress(ProgressText.fraction(progress), ProgressText.words(progress)),
                monitor::cancelled);
            LearnReport report = new LearnReport(fitted, parents.size(), (System.nanoTime() - started) / 1e9);
            report.log();
            return report;
        }
    }
}
