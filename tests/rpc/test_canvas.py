"""Pixels that arrive tile by tile."""

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conceptseg.domain.errors import ImageError, InvalidRequestError
from conceptseg.domain.region import PixelGrid, Region
from conceptseg.encoders.encoder import Encoder
from conceptseg.imaging.glass import Glass, Overview
from conceptseg.imaging.source import RegionSource
from conceptseg.imaging.tiles import Tile
from conceptseg.pipeline import tokens
from conceptseg.pipeline.tokens import encode_tiles, rows_held, tile_grid
from conceptseg.rpc.canvas import Canvas, decode
from conceptseg.rpc.errors import CallTimeError, LimitError
from conceptseg.rpc.inbox import Inbox
from conceptseg.rpc.plan import cut_to_image, needed_window
from conceptseg.v1 import segment_pb2 as pb

WINDOW = Tile(x=-8, y=-4, width=40, height=30)
GRID = PixelGrid(region=Region(x=0, y=0, width=30, height=24), width=30, height=24, pixel_size_um=0.5)
PIXELS = np.random.default_rng(0).integers(0, 256, (WINDOW.height, WINDOW.width, 3), np.uint8)


def tile(x: int, y: int, width: int, height: int, **others: object) -> pb.PixelTile:
    inside = PIXELS[max(0, y - WINDOW.y) :, max(0, x - WINDOW.x) :][: max(0, height), : max(0, width)]
    content = {"encoding": pb.PIXEL_ENCODING_RAW_RGB, "data": inside.tobytes()} | others
    return pb.PixelTile(rect={"x": x, "y": y, "width": width, "height": height}, **content)


def canvas(tiles: list[pb.PixelTile], *, most_tiles: int = 1000) -> Canvas:
    remaining: Iterator[pb.PixelTile | None] = iter(tiles)
    return Canvas(
        name="sent",
        grid=GRID,
        window=WINDOW,
        next_tile=lambda: next(remaining, None),
        most_tiles=most_tiles,
        most_px=WINDOW.width * WINDOW.height,
    )


def cut(xs: list[int], ys: list[int]) -> list[pb.PixelTile]:
    """Tiles of the window with the given inner edges, in window px."""
    columns, rows = sorted({0, *xs, WINDOW.width}), sorted({0, *ys, WINDOW.height})
    return [
        tile(x0 + WINDOW.x, y0 + WINDOW.y, x1 - x0, y1 - y0)
        for y0, y1 in pairwise(rows)
        for x0, x1 in pairwise(columns)
    ]


@given(
    st.lists(st.integers(1, WINDOW.width - 1), max_size=6),
    st.lists(st.integers(1, WINDOW.height - 1), max_size=6),
    st.randoms(),
    st.integers(-20, 40),
    st.integers(-20, 40),
    st.integers(1, 30),
)
def test_any_cut_in_any_order_gives_the_same_pixels(xs, ys, random, x, y, size) -> None:
    tiles = cut(xs, ys)
    random.shuffle(tiles)
    filled = canvas(tiles)
    block = filled.read(x=x, y=y, width=size, height=size)
    # numpy's "symmetric" is the same mirror image.
    wide = np.pad(PIXELS, ((100, 100), (100, 100), (0, 0)), mode="symmetric")
    top, left = 100 + y - WINDOW.y, 100 + x - WINDOW.x
    np.testing.assert_array_equal(block, wide[top : top + size, left : left + size])
    assert block.flags.writeable
    filled.complete(until_end=True)


def test_a_read_takes_no_more_tiles_than_it_needs() -> None:
    taken = []
    tiles = cut([10, 20, 30], [10, 20])

    def next_tile() -> pb.PixelTile | None:
        taken.append(1)
        return tiles[len(taken) - 1]

    filling = Canvas(name="sent", grid=GRID, window=WINDOW, next_tile=next_tile, most_tiles=100, most_px=10**6)
    filling.read(x=WINDOW.x, y=WINDOW.y, width=12, height=5)
    assert len(taken) == 2


@pytest.mark.parametrize(
    ("tiles", "says"),
    [
        ([], "missing"),
        (cut([10], [])[:1], "missing"),
        ([*cut([10], []), tile(0, 0, 4, 4)], "More tiles"),
        ([tile(-8, -4, 40, 29), tile(-8, -4, 40, 29)], "overlaps"),
        ([tile(-8, -4, 40, 15), tile(-8, 10, 40, 15)], "overlaps"),
        ([tile(-9, -4, 40, 30)], "not inside"),
        ([tile(-8, -4, 41, 30)], "not inside"),
        ([tile(2**31 - 1, 0, 2**31 - 1, 2**31 - 1)], "not inside"),
        ([tile(0, 0, 0, 5)], "empty"),
        ([tile(0, 0, -5, 5)], "empty"),
        ([tile(0, 0, 4, 4, data=b"12")], "bytes"),
        ([tile(0, 0, 4, 4, encoding=pb.PIXEL_ENCODING_UNSPECIFIED)], "encoding"),
        ([tile(0, 0, 4, 4, encoding=17)], "encoding"),
    ],
)
def test_tiles_that_do_not_fit_are_refused(tiles: list[pb.PixelTile], says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        canvas(tiles).complete(until_end=True)


def test_too_many_tiles_are_refused() -> None:
    with pytest.raises(LimitError, match="more than 3 tiles"):
        canvas(cut([10, 20, 30], []), most_tiles=3).complete(until_end=True)


def picture(kind: str, *, mode: str = "RGB", size: tuple[int, int] = (4, 3)) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 77).save(file, format=kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pictures_are_decoded(kind: str) -> None:
    encoding = {"PNG": pb.PIXEL_ENCODING_PNG, "JPEG": pb.PIXEL_ENCODING_JPEG}[kind]
    pixels = decode(tile(0, 0, 4, 3, encoding=encoding, data=picture(kind)))
    assert (pixels.shape, pixels.dtype) == ((3, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("encoding", "data", "error"),
    [
        (pb.PIXEL_ENCODING_JPEG, picture("JPEG", size=(5, 3)), InvalidRequestError),
        (pb.PIXEL_ENCODING_JPEG, picture("PNG"), ImageError),  # the wrong format
        (pb.PIXEL_ENCODING_PNG, picture("PNG", mode="I;16"), ImageError),
        (pb.PIXEL_ENCODING_PNG, picture("PNG")[:-30], ImageError),
        (pb.PIXEL_ENCODING_JPEG, picture("JPEG")[:100], ImageError),
        (pb.PIXEL_ENCODING_JPEG, b"", ImageError),
        (pb.PIXEL_ENCODING_PNG, picture("PNG", size=(9000, 9000)), InvalidRequestError),  # never unpacked
    ],
)
def test_damaged_pictures_are_refused(encoding: int, data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        decode(tile(0, 0, 4, 3, encoding=encoding, data=data))


class Recorder:
    """A source that notes how far it is read."""

    def __init__(self, source: RegionSource) -> None:
        self.name, self.grid, self._source = source.name, source.grid, source
        self.boxes: list[tuple[int, int, int, int]] = []

    def read(self, *, x: int, y: int, width: int, height: int) -> np.ndarray:
        self.boxes.append((x, y, x + width, y + height))
        return self._source.read(x=x, y=y, width=width, height=height)

    def overview(self) -> Overview | None:
        return self._source.overview()

    def forget(self, *, before_row: int) -> None:
        self._source.forget(before_row=before_row)


@pytest.mark.parametrize("size", [(300, 280), (17, 33), (600, 530)])
@pytest.mark.parametrize("tile_px", [None, 64, 100])
def test_the_planned_window_is_what_the_pipeline_reads(
    make_source: Callable[..., RegionSource], encoder: Encoder, size: tuple[int, int], tile_px: int | None
) -> None:
    recorder = Recorder(make_source(*size))
    tiles = tile_grid(recorder.grid, encoder, tile_px=tile_px)
    list(encode_tiles(recorder, encoder, tiles, glass=Glass(), cancelled=lambda: False))
    window = needed_window(recorder.grid, encoder, tile_px=tile_px)
    boxes = np.array(recorder.boxes)
    assert (window.x, window.y) == tuple(boxes[:, :2].min(axis=0))
    assert (window.x + window.width, window.y + window.height) == tuple(boxes[:, 2:].max(axis=0))


def test_a_window_cut_to_the_image_mirrors_like_the_file_reader(
    make_source: Callable[..., RegionSource], encoder: Encoder
) -> None:
    """QuPath can only send what the image has; the rest must be what the reader makes of it."""
    source = make_source(400, 380, pixel_size_um=0.25, region=Region(x=11, y=0, width=200, height=400))
    window = needed_window(source.grid, encoder, tile_px=None)
    inside = cut_to_image(window, source.grid, image_width=380, image_height=400)
    assert (inside.x, inside.y) == (-5, 0)
    assert inside.height == 200
    rest: list[pb.PixelTile | None] = [
        pb.PixelTile(
            rect={"x": inside.x, "y": inside.y, "width": inside.width, "height": inside.height},
            encoding=pb.PIXEL_ENCODING_RAW_RGB,
            data=source.read(x=inside.x, y=inside.y, width=inside.width, height=inside.height).tobytes(),
        )
    ]
    sent = Canvas(name="", grid=source.grid, window=inside, next_tile=lambda: rest.pop(), most_tiles=1, most_px=10**6)
    box = {"x": window.x, "y": window.y, "width": window.width, "height": window.height}
    np.testing.assert_array_equal(sent.read(**box), source.read(**box))


class TestManyReaders:
    """A GPU is fed by up to eight threads, which read from one canvas."""

    def test_all_of_them_get_what_they_need(self) -> None:
        for _ in range(20):
            filling = canvas(cut(list(range(1, 40, 3)), list(range(1, 30, 3))))
            boxes = [(x, y) for y in range(-4, 20, 4) for x in range(-8, 24, 8)]
            with ThreadPoolExecutor(8) as pool:
                read = [pool.submit(filling.read, x=x, y=y, width=8, height=6) for x, y in boxes]
            for (x, y), block in zip(boxes, read, strict=True):
                expected = PIXELS[y - WINDOW.y :, x - WINDOW.x :][:6, :8]
                np.testing.assert_array_equal(block.result(), expected)
            filling.complete(until_end=True)

    def test_tiles_are_asked_for_by_one_thread_at_a_time(self) -> None:
        tiles = iter(cut(list(range(1, 40)), []))
        asking = threading.Lock()

        def next_tile() -> pb.PixelTile | None:
            assert asking.acquire(blocking=False), "two threads asked at once"
            try:
                threading.Event().wait(0.001)  # lets the other readers come
                return next(tiles, None)
            finally:
                asking.release()

        filling = Canvas(name="", grid=GRID, window=WINDOW, next_tile=next_tile, most_tiles=100, most_px=10**6)
        with ThreadPoolExecutor(8) as pool:
            for read in [pool.submit(filling.read, x=x, y=0, width=4, height=4) for x in range(-8, 28, 4)]:
                read.result()

    def test_all_of_them_are_told_that_no_more_tiles_come(self) -> None:
        """The end of the stream was told to one reader; the others waited until the client was given up."""
        ends = iter([tile(-8, -4, 40, 10), CallTimeError("The client sent nothing.")])

        def next_tile() -> pb.PixelTile | None:
            end = next(ends)  # a third question would wait for ever
            if isinstance(end, Exception):
                raise end
            return end

        filling = Canvas(name="", grid=GRID, window=WINDOW, next_tile=next_tile, most_tiles=100, most_px=10**6)
        with ThreadPoolExecutor(8) as pool:
            reads = [pool.submit(filling.read, x=0, y=8, width=4, height=4) for _ in range(8)]
        assert [type(read.exception()) for read in reads] == [CallTimeError] * 8

    @pytest.mark.parametrize("readers", [1, 4, 8])
    def test_a_region_that_a_client_sends_slowly_is_that_of_the_file(
        self,
        make_source: Callable[..., RegionSource],
        encoder: Encoder,
        monkeypatch: pytest.MonkeyPatch,
        readers: int,
    ) -> None:
        monkeypatch.setattr("conceptseg.pipeline.tokens._readers", lambda _encoder: readers)
        monkeypatch.setitem(tokens._BLOCK_PX, "cpu", 256)
        source = make_source(700, 900)
        grid = tile_grid(source.grid, encoder, tile_px=128)
        window = needed_window(source.grid, encoder, tile_px=128)
        pieces = [
            Tile(x=x, y=y, width=min(100, window.x + window.width - x), height=min(90, window.y + window.height - y))
            for y in range(window.y, window.y + window.height, 90)
            for x in range(window.x, window.x + window.width, 100)
        ]
        messages = (sent_tile(source, piece) for piece in pieces)
        inbox = Inbox(messages, stall_seconds=60, cancelled=lambda: False).start()
        sent = Canvas(name="", grid=source.grid, window=window, next_tile=inbox.next, most_tiles=1000, most_px=10**7)
        options = {"glass": Glass(), "cancelled": lambda: False}
        expected = list(encode_tiles(source, encoder, grid, **options))
        found = list(encode_tiles(sent, encoder, grid, **options))
        sent.complete(until_end=True)
        np.testing.assert_array_equal(
            np.concatenate([one.tokens for one in found if one.tokens is not None]),
            np.concatenate([one.tokens for one in expected if one.tokens is not None]),
        )


class TestALargeRegion:
    """Its rows stream through: what the pipeline has passed is given back."""

    GRID = PixelGrid(region=Region(x=0, y=0, width=24, height=20_000), width=24, height=20_000, pixel_size_um=0.5)
    WINDOW = Tile(x=0, y=0, width=24, height=20_000)
    PIXELS = np.random.default_rng(1).integers(0, 256, (20_000, 24, 3), np.uint8)

    def sent(self, *, most_px: int, reverse: bool = False) -> Canvas:
        tiles = [
            pb.PixelTile(
                rect={"x": 0, "y": y, "width": 24, "height": min(700, 20_000 - y)},
                encoding=pb.PIXEL_ENCODING_RAW_RGB,
                data=self.PIXELS[y : y + 700].tobytes(),
            )
            for y in range(0, 20_000, 700)
        ]
        rest = iter(tiles[::-1] if reverse else tiles)
        return Canvas(
            name="",
            grid=self.GRID,
            window=self.WINDOW,
            next_tile=lambda: next(rest, None),
            most_tiles=100,
            most_px=most_px,
        )

    def test_needs_memory_for_the_rows_in_work_only(self) -> None:
        canvas = self.sent(most_px=24 * 8192)
        for y in range(0, 20_000, 500):
            canvas.forget(before_row=y - 100)
            block = canvas.read(x=-4, y=y - 100, width=32, height=700)
            rows = np.pad(self.PIXELS, ((100, 200), (4, 4), (0, 0)), mode="symmetric")[y : y + 700]
            np.testing.assert_array_equal(block, rows)
            # The last rows stay, since reads beyond the edge see their mirror image.
            assert canvas.held_px <= 24 * 8192
        canvas.complete(until_end=True)

    def test_in_another_order_is_refused_when_it_does_not_fit(self) -> None:
        canvas = self.sent(most_px=24 * 8192, reverse=True)
        with pytest.raises(LimitError, match="row by row from the top"):
            canvas.read(x=0, y=0, width=24, height=100)

    def test_in_any_order_is_fine_when_it_fits(self) -> None:
        canvas = self.sent(most_px=24 * 20_000, reverse=True)
        np.testing.assert_array_equal(canvas.read(x=0, y=0, width=24, height=100), self.PIXELS[:100])

    def test_never_reads_above_what_it_has_said_is_done(
        self, make_source: Callable[..., RegionSource], encoder: Encoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(tokens._BLOCK_PX, "cpu", 128)
        source = Recorder(make_source(600, 300))
        lowest = [-(10**6)]
        monkeypatch.setattr(source, "forget", lambda *, before_row: lowest.append(before_row))
        grid = tile_grid(source.grid, encoder, tile_px=64)
        for _ in encode_tiles(source, encoder, grid, glass=None, cancelled=lambda: False):
            pass
        first_rows = [box[1] for box in source.boxes]
        assert max(lowest) > 300  # most of the region was given back
        assert sorted(lowest) == lowest
        assert min(first_rows[-3:]) >= lowest[-1]
        held = rows_held(grid, encoder)
        assert all(box[3] - low <= held for box, low in zip(source.boxes[3:], lowest[1:], strict=False))


def sent_tile(source: RegionSource, piece: Tile) -> pb.PixelTile:
    box = {"x": piece.x, "y": piece.y, "width": piece.width, "height": piece.height}
    return pb.PixelTile(rect=box, encoding=pb.PIXEL_ENCODING_RAW_RGB, data=source.read(**box).tobytes())
