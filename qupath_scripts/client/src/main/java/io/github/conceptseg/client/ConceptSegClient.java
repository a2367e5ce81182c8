package io.github.conceptseg.client;

import io.github.conceptseg.v1.DictionaryInfo;
import io.github.conceptseg.v1.EncoderInfo;
import io.github.conceptseg.v1.FitConceptsRequest;
import io.github.conceptseg.v1.FitEvent;
import io.github.conceptseg.v1.FittedDictionary;
import io.github.conceptseg.v1.GetServerInfoRequest;
import io.github.conceptseg.v1.GetServerInfoResponse;
import io.github.conceptseg.v1.LabelMapRows;
import io.github.conceptseg.v1.ListDictionariesRequest;
import io.github.conceptseg.v1.ListEncodersRequest;
import io.github.conceptseg.v1.PixelTile;
import io.github.conceptseg.v1.PlanRegionRequest;
import io.github.conceptseg.v1.PlanRegionResponse;
import io.github.conceptseg.v1.PolygonBatch;
import io.github.conceptseg.v1.Progress;
import io.github.conceptseg.v1.SegmentEvent;
import io.github.conceptseg.v1.SegmentPixelsHeader;
import io.github.conceptseg.v1.SegmentPixelsRequest;
import io.github.conceptseg.v1.SegmentRegionRequest;
import io.github.conceptseg.v1.SegmentSummary;
import io.github.conceptseg.v1.SegmentationServiceGrpc;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.netty.shaded.io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import java.util.function.Supplier;

/**
 * The server's calls in Java, without any of QuPath's types.
 *
 * <p>Every failure is a {@link ConceptSegException}. Long calls block; they ask {@code cancelled} at least every 50 ms
 * while they wait, and stop when the thread is interrupted.
 */
public final class ConceptSegClient implements AutoCloseable {
    /** The protocol revision that this client needs. */
    public static final int PROTOCOL_REVISION = 1;

    private static final long SHORT_CALL_SECONDS = 60;

    private final ServerAddress address;
    private final ManagedChannel channel;
    private final SegmentationServiceGrpc.SegmentationServiceBlockingStub blocking;
    private final SegmentationServiceGrpc.SegmentationServiceFutureStub futures;
    private final SegmentationServiceGrpc.SegmentationServiceStub streaming;

    private ConceptSegClient(ServerAddress address, ManagedChannel channel) {
        this.address = address;
        this.channel = channel;
        Metadata headers = new Metadata();
        headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + address.token());
        var withToken = MetadataUtils.newAttachHeadersInterceptor(headers);
        blocking = SegmentationServiceGrpc.newBlockingStub(channel).withInterceptors(withToken);
        futures = SegmentationServiceGrpc.newFutureStub(channel).withInterceptors(withToken);
        streaming = SegmentationServiceGrpc.newStub(channel).withInterceptors(withToken);
    }

    /** A client of a server; connects with the first call. */
    public static ConceptSegClient connect(ServerAddress address) {
        return ContextClassLoader.call(() -> {
            NettyChannelBuilder builder = NettyChannelBuilder.forAddress(address.host(), address.port())
                .userAgent("conceptseg-qupath")
                .maxInboundMessageSize(Integer.MAX_VALUE); // one polygon may be larger than any limit
            if (address.tlsCertificate() == null) {
                builder.usePlaintext();
            } else {
                if (!Files.isReadable(address.tlsCertificate())) {
                    throw new ConceptSegException(ConceptSegException.Kind.BAD_REQUEST, "The certificate "
                        + address.tlsCertificate() + " of the ConceptSeg server cannot be read. Copy it from the "
                        + "server's computer and choose it in the preferences.");
                }
                try {
                    builder.sslContext(
                        GrpcSslContexts.forClient().trustManager(address.tlsCertificate().toFile()).build());
                } catch (IOException | IllegalArgumentException error) {
                    throw new ConceptSegException(ConceptSegException.Kind.BAD_REQUEST, "The file "
                        + address.tlsCertificate() + " is not a certificate in PEM form. Choose the server's "
                        + "certificate in the preferences.", error);
                }
            }
            return new ConceptSegClient(address, builder.build());
        });
    }

    /** Where the server is. */
    public ServerAddress address() {
        return address;
    }

    /** What the server is; within {@code seconds}. */
    public GetServerInfoResponse info(double seconds) {
        return call(() -> blocking.withDeadlineAfter((long) (1000 * seconds), TimeUnit.MILLISECONDS)
            .getServerInfo(GetServerInfoRequest.getDefaultInstance()));
    }

    /** What the server is. */
    public GetServerInfoResponse info() {
        return info(SHORT_CALL_SECONDS);
    }

    /** Fails if the server is no ConceptSeg server, or older than this client. */
    public void requireCompatible(GetServerInfoResponse info) {
        if (!info.getName().equals("conceptseg") || info.getProtocolRevision() < PROTOCOL_REVISION) {
            throw new ConceptSegException(ConceptSegException.Kind.VERSION_MISMATCH, "The server at " + address
                + " is ConceptSeg " + info.getVersion() + " with protocol revision " + info.getProtocolRevision()
                + "; this extension needs revision " + PROTOCOL_REVISION + ". Update the Python package (pip install "
                + "--upgrade conceptseg) and restart the server.");
        }
    }

    /** The encoders known by name, the default first. */
    public List<EncoderInfo> encoders() {
        return call(() -> quick().listEncoders(ListEncodersRequest.getDefaultInstance()).getEncodersList());
    }

    /** The dictionaries of an encoder, all if it is empty. */
    public List<DictionaryInfo> dictionaries(String encoder) {
        var request = ListDictionariesRequest.newBuilder().setEncoder(encoder).build();
        return call(() -> quick().listDictionaries(request).getDictionariesList());
    }

    /** Which pixels a region needs. The server loads the encoder for it, which may have to be downloaded. */
    public PlanRegionResponse plan(PlanRegionRequest request, BooleanSupplier cancelled) {
        return call(() -> {
            var answer = futures.planRegion(request);
            try {
                while (true) {
                    if (cancelled.getAsBoolean()) {
                        throw ConceptSegException.cancelled();
                    }
                    try {
                        return answer.get(50, TimeUnit.MILLISECONDS);
                    } catch (TimeoutException notYet) {
                        continue;
                    }
                }
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
                throw ConceptSegException.cancelled();
            } catch (ExecutionException error) {
                throw StatusErrors.of(error.getCause(), address);
            } finally {
                answer.cancel(true);
            }
        });
    }

    /** Segment pixels. The tiles are asked for one by one, as the connection takes them. */
    public SegmentOutcome segmentPixels(SegmentPixelsHeader header, Iterator<PixelTile> tiles,
            Consumer<Progress> progress, BooleanSupplier cancelled) {
        var collected = new Collected(progress);
        var requests = new HeaderThen<SegmentPixelsRequest>(SegmentPixelsRequest.newBuilder().setHeader(header).build(),
            tiles::hasNext, () -> SegmentPixelsRequest.newBuilder().setTile(tiles.next()).build());
        call(() -> {
            new StreamedCall<SegmentPixelsRequest, SegmentEvent>(address, cancelled)
                .run(streaming::segmentPixels, requests, collected);
            return null;
        });
        return collected.outcome(address);
    }

    /** Segment a region that the server reads from a file of its own computer. */
    public SegmentOutcome segmentRegion(SegmentRegionRequest request, Consumer<Progress> progress,
            BooleanSupplier cancelled) {
        var collected = new Collected(progress);
        call(() -> {
            new StreamedCall<SegmentRegionRequest, SegmentEvent>(address, cancelled).run(events -> {
                streaming.segmentRegion(request, events);
                return null;
            }, Collections.emptyIterator(), collected);
            return null;
        });
        return collected.outcome(address);
    }

    /** Learn dictionaries. The requests are the header, then regions as the protocol describes. */
    public List<FittedDictionary> fit(Iterator<FitConceptsRequest> requests, Consumer<Progress> progress,
            BooleanSupplier cancelled) {
        List<FittedDictionary> fitted = new ArrayList<>();
        return call(() -> {
            new StreamedCall<FitConceptsRequest, FitEvent>(address, cancelled)
                .run(streaming::fitConcepts, requests, event -> {
                    if (event.hasProgress()) {
                        progress.accept(event.getProgress());
                    } else if (event.hasDictionary()) {
                        fitted.add(event.getDictionary());
                    }
                });
            return fitted;
        });
    }

    /** Ends the connection, and every call that is under way. */
    @Override
    public void close() {
        channel.shutdownNow();
    }

    private SegmentationServiceGrpc.SegmentationServiceBlockingStub quick() {
        return blocking.withDeadlineAfter(SHORT_CALL_SECONDS, TimeUnit.SECONDS);
    }

    private <T> T call(Supplier<T> action) {
        return ContextClassLoader.call(() -> {
            try {
                return action.get();
            } catch (io.grpc.StatusRuntimeException error) {
                throw StatusErrors.of(error, address);
            }
        });
    }

    private static final class Collected implements Consumer<SegmentEvent> {
        private final Consumer<Progress> progress;
        private final List<PolygonBatch> polygons = new ArrayList<>();
        private final List<LabelMapRows> labelMap = new ArrayList<>();
        private SegmentSummary summary;

        Collected(Consumer<Progress> progress) {
            this.progress = progress;
        }

        @Override
        public void accept(SegmentEvent event) {
            switch (event.getEventCase()) {
                case PROGRESS -> progress.accept(event.getProgress());
                case SUMMARY -> summary = event.getSummary();
                case POLYGONS -> polygons.add(event.getPolygons());
                case LABEL_MAP_ROWS -> labelMap.add(event.getLabelMapRows());
                default -> { } // something newer that this client does not need
            }
        }

        SegmentOutcome outcome(ServerAddress address) {
            long received = polygons.stream().mapToLong(PolygonBatch::getPolygonsCount).sum();
            if (summary == null || received != summary.getPolygonCount()) {
                throw new ConceptSegException(ConceptSegException.Kind.INTERNAL, "The ConceptSeg server at " + address
                    + " sent " + received + " polygons"
                    + (summary == null ? " without a summary" : " of " + summary.getPolygonCount())
                    + ". Nothing was changed. Please report it.");
            }
            return new SegmentOutcome(summary, polygons, labelMap);
        }
    }

    /** One request, then those that follow. */
    private static final class HeaderThen<T> implements Iterator<T> {
        private final BooleanSupplier hasMore;
        private final Supplier<T> more;
        private T header;

        HeaderThen(T header, BooleanSupplier hasMore, Supplier<T> more) {
            this.header = header;
            this.hasMore = hasMore;
            this.more = more;
        }

        @Override
        public boolean hasNext() {
            return header != null || hasMore.getAsBoolean();
        }

        @Override
        public T next() {
            if (header != null) {
                T first = header;
                header = null;
                return first;
            }
            return more.get();
        }
    }
}
