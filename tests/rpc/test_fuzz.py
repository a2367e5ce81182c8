"""Whatever a client sends, it gets a status of the table with a sentence, and the server goes on."""

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
import shapely
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from conceptseg.rpc.errors import STATUS
from conceptseg.v1 import catalogue_pb2, fit_pb2, segment_pb2

ALLOWED = {*STATUS.values()} - {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE}
SIZE = 48
FUZZ = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)

INTERESTING = {
    FieldDescriptor.CPPTYPE_INT32: [0, 1, -1, 7, 16, SIZE, 1000, 2**31 - 1, -(2**31)],
    FieldDescriptor.CPPTYPE_UINT32: [0, 1, 2**32 - 1],
    FieldDescriptor.CPPTYPE_DOUBLE: [0.0, -0.5, 0.25, 0.5, 3.0, 1e-300, 1e300, math.nan, math.inf, -math.inf],
    FieldDescriptor.CPPTYPE_BOOL: [True, False],
    FieldDescriptor.CPPTYPE_ENUM: [0, 1, 2, 3, 99],
}
STRINGS = [
    *("", "default", "projection", "learned", "matched", "nearest", "no-such-thing", "timm:no-such-model", "timm:"),
    *("../../etc/passwd", "/etc/passwd", "/dev/zero", "default-k8", "ünï:cødé\n", "x" * 5000, "uni"),
]
BYTES = [
    *(b"", b"\0", b"\xff\xd8\xff\xe0 no jpeg", b"\x89PNG\r\n\x1a\n", bytes(3 * SIZE * SIZE)),
    shapely.box(0, 0, 20, 20).wkb,
    shapely.box(1e9, 1e9, 2e9, 2e9).wkb,
    shapely.Point(1, 1).wkb,
    shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)]).wkb,
    shapely.Polygon().wkb,
    shapely.box(0, 0, 20, 20).wkb.replace(struct.pack("<d", 20.0), struct.pack("<d", math.nan)),
    shapely.box(0, 0, 20, 20).wkb[:-3],
]


def values(field: FieldDescriptor) -> Sequence[Any]:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return BYTES if field.type == FieldDescriptor.TYPE_BYTES else STRINGS
    return INTERESTING[field.cpp_type]


def mutate(message: Message, data: st.DataObject) -> None:
    """Set or clear one field, anywhere in ``message``."""
    while True:
        field = data.draw(st.sampled_from(list(message.DESCRIPTOR.fields)), label="field")
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if data.draw(st.integers(0, 4)) == 0 or is_map:
            message.ClearField(field.name)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            if not field.is_repeated:
                message = getattr(message, field.name)
                message.SetInParent()
                if message.DESCRIPTOR.fields:
                    continue
        elif field.is_repeated:
            getattr(message, field.name).append(data.draw(st.sampled_from(values(field))))
        else:
            setattr(message, field.name, data.draw(st.sampled_from(values(field)), label=field.name))
        return


def options() -> dict[str, Any]:
    return {"encoder": "default", "settings": {"whole_region": True, "min_area_um2": 0}, "want_label_map": True}


def pixels_header() -> dict[str, Any]:
    region = {"x": 5, "y": 6, "width": 2 * SIZE, "height": 2 * SIZE}
    return {
        "image_name": "fuzz",
        "grid": {"region": region, "width": SIZE, "height": SIZE, "image_pixel_size_um": 0.25},
    }


def tile(x: int, width: int) -> dict[str, Any]:
    data = bytes(range(256)) * (3 * width * SIZE // 256)
    return {
        "rect": {"x": x, "y": 0, "width": width, "height": SIZE},
        "encoding": "PIXEL_ENCODING_RAW_RGB",
        "data": data,
    }


def pixel_stream() -> list[segment_pb2.SegmentPixelsRequest]:
    return [
        segment_pb2.SegmentPixelsRequest(header={"pixels": pixels_header(), "options": options()}),
        segment_pb2.SegmentPixelsRequest(tile=tile(0, 16)),
        segment_pb2.SegmentPixelsRequest(tile=tile(16, 32)),
    ]


def fit_stream() -> list[fit_pb2.FitConceptsRequest]:
    return [
        fit_pb2.FitConceptsRequest(header={"ks": [2], "region_count": 1}),
        fit_pb2.FitConceptsRequest(pixels=pixels_header()),
        fit_pb2.FitConceptsRequest(tile=tile(0, 16)),
        fit_pb2.FitConceptsRequest(tile=tile(16, 32)),
    ]


def spoil(messages: list[Any], data: st.DataObject) -> list[Any]:
    """Drop, repeat, swap or mutate some messages of a stream."""
    for _ in range(data.draw(st.integers(1, 3), label="faults")):
        if not messages:
            break
        index = data.draw(st.integers(0, len(messages) - 1), label="message")
        fault = data.draw(st.sampled_from(["mutate", "mutate", "mutate", "drop", "repeat", "first"]), label="fault")
        if fault == "mutate":
            mutate(messages[index], data)
        elif fault == "drop":
            del messages[index]
        elif fault == "repeat":
            messages.insert(index, messages[index])
        else:
            messages.insert(0, messages.pop(index))
    return messages


def check(call: Callable[[], Any]) -> grpc.StatusCode:
    """The status of a call, which is one of the table and comes with a sentence."""
    code, details = grpc.StatusCode.OK, "Everything went well."
    try:
        call()
    except grpc.RpcError as error:
        code, details = error.code(), error.details()
    assert code in (*ALLOWED, grpc.StatusCode.OK), details
    assert len(details) > 20
    assert details.rstrip()[-1] in ".…)]", details
    return code


@pytest.fixture(scope="module")
def stub(server: Any) -> Iterator[Any]:
    with server.stub() as connected:
        yield connected


def test_the_unspoiled_streams_are_fine(server: Any, stub: Any) -> None:
    assert check(lambda: list(stub.SegmentPixels(iter(pixel_stream()), metadata=server.metadata))) is grpc.StatusCode.OK
    assert check(lambda: list(stub.FitConcepts(iter(fit_stream()), metadata=server.metadata))) in (
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,  # too little tissue
    )


@FUZZ
@given(st.data())
def test_segment_pixels(server: Any, stub: Any, data: st.DataObject) -> None:
    messages = spoil(pixel_stream(), data)
    check(lambda: list(stub.SegmentPixels(iter(messages), metadata=server.metadata, timeout=60)))


@FUZZ
@given(st.data())
def test_fit_concepts(server: Any, stub: Any, data: st.DataObject) -> None:
    messages = spoil(fit_stream(), data)
    check(lambda: list(stub.FitConcepts(iter(messages), metadata=server.metadata, timeout=60)))


@FUZZ
@given(st.data())
def test_segment_region(server: Any, stub: Any, slides: Any, data: st.DataObject) -> None:
    request = segment_pb2.SegmentRegionRequest(
        path=str(slides / "picture.png"),
        region={"x": 70, "y": 70, "width": 60, "height": 50},
        image_pixel_size_um=0.5,
        options=options(),
    )
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(request, data)
    check(lambda: list(stub.SegmentRegion(request, metadata=server.metadata, timeout=60)))


@FUZZ
@given(st.data())
def test_short_calls(server: Any, stub: Any, data: st.DataObject) -> None:
    plan = catalogue_pb2.PlanRegionRequest(
        options=options(),
        region={"width": 500, "height": 400},
        image_width=600,
        image_height=500,
        image_pixel_size_um=0.5,
    )
    for _ in range(data.draw(st.integers(1, 4))):
        mutate(plan, data)
    check(lambda: stub.PlanRegion(plan, metadata=server.metadata, timeout=60))
    dictionaries = catalogue_pb2.ListDictionariesRequest()
    mutate(dictionaries, data)
    check(lambda: stub.ListDictionaries(dictionaries, metadata=server.metadata, timeout=60))


METHODS = ["SegmentPixels", "SegmentRegion", "FitConcepts", "PlanRegion", "ListDictionaries"]


@FUZZ
@given(st.sampled_from(METHODS), st.binary(max_size=60), st.integers(0, 4))
def test_bytes_that_are_no_messages(server: Any, method: str, junk: bytes, cut: int) -> None:
    data = pixel_stream()[0].SerializeToString()[: -cut or None] + junk
    with grpc.insecure_channel(server.endpoint) as channel:
        call = channel.stream_stream(f"/conceptseg.v1.SegmentationService/{method}")
        check(lambda: list(call(iter([data]), metadata=server.metadata, timeout=60)))


@pytest.mark.parametrize("damaged", ["[" * 9000 + "]" * 9000, "[" * 400 + "]" * 400, "7", '{"a": 1e999}'])
@pytest.mark.parametrize("key", ["classes", "provenance"])
def test_damaged_metadata_of_a_dictionary(server: Any, stub: Any, key: str, damaged: str) -> None:
    metadata = {"format": "conceptseg-dictionary", "version": "1", "identifier": "x", "encoder": "default"}
    metadata |= {"pixel_size_um": "0.5", "classes": "[]", "provenance": "{}", key: damaged}
    content = save({"concepts": np.ones((2, 3), np.float32)}, metadata=metadata)
    header, *tiles = pixel_stream()
    header.header.options.dictionary.file = content
    code = check(lambda: list(stub.SegmentPixels(iter([header, *tiles]), metadata=server.metadata)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_metadata_that_is_no_text(server: Any, stub: Any) -> None:
    request = catalogue_pb2.GetServerInfoRequest()
    for extra in (("x-request-id", "a" * 5000), ("x-request-id", "no {spaces}"), ("junk-bin", b"\xff\0")):
        stub.GetServerInfo(request, metadata=(*server.metadata, extra), timeout=10)
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetServerInfo(request, metadata=(("authorization", "Basic ~"),), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_unknown_methods(server: Any) -> None:
    with grpc.insecure_channel(server.endpoint) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/conceptseg.v1.SegmentationService/NoSuchMethod")(b"", metadata=server.metadata)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_gated_weights_are_told_apart_from_a_wrong_name(server: Any, stub: Any) -> None:
    request = pixel_stream()
    request[0].header.options.encoder = "uni"
    request[0].header.options.settings.method = "learned"
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.SegmentPixels(iter(request), metadata=server.metadata, timeout=100))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert dict(caught.value.trailing_metadata())["conceptseg-error"] == "WeightsUnavailableError"
    assert "licence" in caught.value.details()
    assert "hf auth login" in caught.value.details()


def test_the_server_has_made_no_mistake(server: Any, client: Any) -> None:
    """Last in this file: nothing above was a fault of the server, and it still works."""
    assert client.info().name == "conceptseg"
    faults = [line for line in server.log.read_text().splitlines() if '"trace"' in line or "INTERNAL" in line]
    assert faults == []
