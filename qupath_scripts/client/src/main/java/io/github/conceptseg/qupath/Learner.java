package io.github.conceptseg.qupath;

import io.github.conceptseg.client.ConceptSegClient;
import io.github.conceptseg.v1.FitConceptsHeader;
import io.github.conceptseg.v1.FitConceptsRequest;
import io.github.conceptseg.v1.FittedDictionary;
import io.github.conceptseg.v1.PlanRegionResponse;
import io.github.conceptseg.v1.Progress;
import io.github.conceptseg.v1.SegmentOptions;
import io.github.conceptseg.v1.SegmentSettings;
import java.awt.image.BufferedImage;
import java.util.Iterator;
import java.util.List;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.objects.PathObject;

/** Learns dictionaries from the pixels of parents. */
public final class Learner {
    private final ConceptSegClient client;
    private final ImageServer<BufferedImage> server;
    private final Segmenter segmenter;

    /** A learner for an image; {@code pixelSizeUm} NaN to take the image's own. */
    public Learner(ConceptSegClient client, ImageServer<BufferedImage> server, double pixelSizeUm) {
        this.client = client;
        this.server = server;
        segmenter = new Segmenter(client, server, pixelSizeUm, ProjectLabels.none());
    }

    /** Learn; the server's header says what. */
    public List<FittedDictionary> learn(List<PathObject> parents, FitConceptsHeader header, Consumer<Progress> progress,
            BooleanSupplier cancelled) {
        SegmentOptions options = SegmentOptions.newBuilder().setEncoder(header.getEncoder())
            .setSettings(SegmentSettings.newBuilder().setMethod("learned")).build();
        List<PlanRegionResponse> plans = parents.stream()
            .map(parent -> segmenter.plan(ParentRegion.of(parent, server), options, cancelled)).toList();
        try (Requests requests = new Requests(header.toBuilder().setRegionCount(plans.size()).build(), plans)) {
            return client.fit(requests, progress, cancelled);
        }
    }

    /** The header, then per region its description and its tiles. */
    private final class Requests implements Iterator<FitConceptsRequest>, AutoCloseable {
        private final Iterator<PlanRegionResponse> plans;
        private FitConceptsHeader header;
        private TilesAhead tiles;

        Requests(FitConceptsHeader header, List<PlanRegionResponse> plans) {
            this.header = header;
            this.plans = plans.iterator();
        }

        @Override
        public boolean hasNext() {
            return header != null || tiles != null && tiles.hasNext() || plans.hasNext();
        }

        @Override
        public FitConceptsRequest next() {
            FitConceptsRequest.Builder request = FitConceptsRequest.newBuilder();
            if (header != null) {
                request.setHeader(header);
                header = null;
            } else if (tiles != null && tiles.hasNext()) {
                request.setTile(tiles.next());
            } else {
                close();
                PlanRegionResponse plan = plans.next();
                request.setPixels(segmenter.pixelsHeader(plan));
                tiles = segmenter.tiles(plan);
            }
            return request.build();
        }

        @Override
        public void close() {
            if (tiles != null) {
                tiles.close();
                tiles = null;
            }
        }
    }
}
