"""What only a GPU's path has: team, pinned memory, graph, streams, the thread that fetches; beside a client, too."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.encoders.fake_cuda import WORLD, Event, Stream, _stream, fake_gpus

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import DeviceMemoryError
from conceptseg.encoders import graph
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.registry import get_spec
from conceptseg.encoders.team import EncoderTeam
from conceptseg.factorization import nnls
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.source import open_region
from conceptseg.pipeline import tokens
from conceptseg.pipeline.sampling import sample_tokens
from conceptseg.pipeline.segment import segment
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.rpc.client import Client
from conceptseg.rpc.server import Server, ServeSettings

CHANNELS, STRIDE = 12, 16
SPEC = replace(
    get_spec("default"), channels=CHANNELS, stride_px=STRIDE, halo_px=STRIDE, stain_weight=0, cpu_tile_px=128
)
WINDOWS = replace(SPEC, window_px=64)


class Patches(torch.nn.Module):
    """A token per patch: small, and no two alike."""

    def __init__(self) -> None:
        super().__init__()
        weights = torch.from_numpy(np.random.default_rng(0).normal(size=(CHANNELS, 3, STRIDE, STRIDE)))
        self.weight = torch.nn.Parameter(weights.float() / 50, requires_grad=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(images, self.weight, stride=STRIDE).relu().permute(0, 2, 3, 1)


def encoder_on(*devices: str, spec=SPEC) -> Encoder:
    members = [Encoder(spec, Patches(), device=torch.device(device)) for device in devices]
    return members[0] if len(members) == 1 else EncoderTeam(members)


@pytest.fixture
def dictionary():
    concepts = np.random.default_rng(1).random((6, CHANNELS), np.float32)
    return ConceptDictionary(identifier="own", concepts=concepts, encoder=SPEC.identifier, pixel_size_um=0.5)


@pytest.fixture
def source():
    pixels = np.random.default_rng(2).integers(60, 220, (10, 14, 3), np.uint8).repeat(32, 0).repeat(32, 1)
    return open_region(ArrayReader(pixels, name="noise", pixel_size_um=0.5), region=None, pixel_size_um=0.5)


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs, small tiles, and blocks so small that several are read at once."""
    monkeypatch.setattr("conceptseg.encoders.encoder.GPU_TILE_PX", 128)
    monkeypatch.setattr("conceptseg.encoders.encoder._LARGEST_BATCH", 32)
    monkeypatch.setitem(tokens._BLOCK_PX, "cuda", 256)
    with fake_gpus(monkeypatch, count=2) as world:
        yield world


class CpuTokenSolver:
    """The Triton kernel's part, done by the CPU's kernel."""

    def __init__(self, gram, correlations, *, max_steps):
        n, k = correlations.shape
        self._gram, self._correlations, self._steps = gram, correlations, max_steps
        self.activations = torch.zeros((n, k), dtype=torch.float32, device=correlations.device)
        self.explained = torch.zeros(n, dtype=torch.float64, device=correlations.device)
        self.unfinished = torch.ones(n, dtype=torch.bool, device=correlations.device)

    def solve(self, rows, *, places):
        if not len(rows):
            return
        # The kernel reads some and writes others on the current stream: operations that change nothing stand for it.
        for read in (self._gram, self._correlations):
            read + 0
        for written in (self.activations, self.explained, self.unfinished):
            written.copy_(written)
        activations, explained = nnls.allocate(*self._correlations.shape)
        nnls.solve_rows(
            self._gram._value.numpy(),
            self._correlations._value.numpy(),
            0,
            len(activations),
            self._steps,
            activations,
            explained,
        )
        for row in rows._value.tolist():
            active = int((activations[row] > 0).sum())
            self.unfinished._value[row] = active > (2 if places == nnls._PLACES[0] else 4)
            if not self.unfinished._value[row]:
                self.activations._value[row] = torch.from_numpy(activations[row])
                self.explained._value[row] = explained[row]


@pytest.fixture(params=["one warp per token", "batched"])
def solver(request, monkeypatch):
    chosen = CpuTokenSolver if request.param != "batched" else None
    monkeypatch.setattr(nnls, "_token_solver", lambda: chosen)


@pytest.mark.parametrize("method", ["projection", "learned", "nearest"])
@pytest.mark.parametrize("spec", [SPEC, WINDOWS], ids=["any size", "windows"])
def test_two_gpus_find_what_the_cpu_finds(source, dictionary, monkeypatch, request, solver, method, spec):
    settings = SegmentSettings(method=method, n_concepts=4, whole_region=True)
    chosen = None if method == "learned" else dictionary
    monkeypatch.setattr("conceptseg.pipeline.activate._TUNING_PAYS", 10)
    expected = segment(source, encoder=encoder_on("cpu", spec=spec), dictionary=chosen, settings=settings)
    gpus = request.getfixturevalue("gpus")
    found = segment(source, encoder=encoder_on("cuda:0", "cuda:1", spec=spec), dictionary=chosen, settings=settings)
    assert (found.label_map.labels == expected.label_map.labels).mean() > 0.999
    np.testing.assert_allclose(found.relative_residual, expected.relative_residual, rtol=1e-3)
    assert min(gpus.launches.values()) > 0
    assert (gpus.replays > 0) == (spec is WINDOWS)


def test_progress_comes_to_its_end(source, dictionary, gpus, solver):
    seen = []
    segment(source, encoder=encoder_on("cuda:0"), dictionary=dictionary, progress=seen.append)
    for stage in {step.stage for step in seen}:
        last = [step for step in seen if step.stage == stage][-1]
        assert last.done == last.total
    encode = [step.done for step in seen if step.stage == "encode"]
    assert encode == sorted(encode)


def test_samples_are_those_of_the_cpu(source, request):
    options = {"seed": 1, "at_most": 50}
    expected = sample_tokens(source, encoder=encoder_on("cpu"), **options)
    request.getfixturevalue("gpus")
    found = sample_tokens(source, encoder=encoder_on("cuda:0", "cuda:1"), **options)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_server_with_two_gpus_answers_clients_as_the_local_call_does(
    source, dictionary, gpus, solver, monkeypatch, tmp_path: Path
):
    """Several at once, whose tiles and batches take turns."""
    monkeypatch.setenv("CONCEPTSEG_CONFIG_DIR", str(tmp_path))
    team = encoder_on("cuda:0", "cuda:1")
    expected = segment(source, encoder=encoder_on("cuda:0"), dictionary=dictionary)
    monkeypatch.setattr("conceptseg.rpc.encoders.load_encoder", lambda *_, **__: team)
    server = Server(ServeSettings(device="all"), annotate=None)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        results = {}

        def work(number):
            with Client(server.endpoint.endpoint, server.endpoint.token) as client:
                results[number] = client.segment(source, dictionary=dictionary)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        with Client(server.endpoint.endpoint, server.endpoint.token) as client:
            info = client.info()
            assert (info.device, info.device_name) == ("cuda:0", "Fake GPU")
            assert info.device_memory_free_bytes == 6 << 30
    finally:
        server.stop()
        thread.join(60)
    assert sorted(results) == [0, 1, 2, 3]
    for result in results.values():
        np.testing.assert_array_equal(result.label_map.labels, expected.label_map.labels)
    assert min(gpus.launches.values()) > 0


@pytest.mark.parametrize("failure", ["Failed to find C compiler. Please specify via CC.", "libcuda.so cannot found!"])
def test_where_triton_cannot_compile_the_batched_solver_is_used(source, dictionary, gpus, monkeypatch, caplog, failure):
    class NoCompiler(CpuTokenSolver):
        tried = 0

        def solve(self, rows, *, places):
            NoCompiler.tried += 1
            raise (AssertionError if "libcuda" in failure else RuntimeError)(failure)

    monkeypatch.setattr(nnls, "_WITHOUT_KERNEL", set())
    monkeypatch.setattr(nnls, "_token_solver", lambda: NoCompiler)
    encoder = encoder_on("cuda:0")
    assert segment(source, encoder=encoder, dictionary=dictionary).polygons
    assert segment(source, encoder=encoder, dictionary=dictionary).polygons
    assert NoCompiler.tried == 1
    assert failure in caplog.text


def test_a_gpu_that_fails_is_not_taken_for_one_without_triton(source, dictionary, gpus, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(nnls, "_token_solver", lambda: CpuTokenSolver)
    monkeypatch.setattr(CpuTokenSolver, "solve", fails)
    with pytest.raises(RuntimeError, match="CUDA error"):
        segment(source, encoder=encoder_on("cuda:0"), dictionary=dictionary)
    assert not nnls._WITHOUT_KERNEL


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("MPS backend out of memory (MPS allocated: 17 GB). Tried to allocate 2 GB on private pool."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:75] DefaultCPUAllocator: not enough memory: you tried to allocate"),
]


@pytest.mark.parametrize("failure", OUT_OF_MEMORY, ids=["cuda", "mps", "cpu"])
def test_a_device_without_memory_goes_on_with_smaller_batches(source, dictionary, gpus, solver, monkeypatch, failure):
    compute = Encoder._compute

    def small(self, images):
        if len(images) > 2:
            raise failure
        return compute(self, images)

    monkeypatch.setattr(Encoder, "_compute", small)
    encoder = encoder_on("cuda:0", "cuda:1")
    assert segment(source, encoder=encoder, dictionary=dictionary).polygons
    assert encoder.batch_tiles == 2
    monkeypatch.setattr(Encoder, "_compute", lambda *_: small(encoder, range(3)))
    with pytest.raises(DeviceMemoryError, match="--tile-px"):
        segment(source, encoder=encoder_on("cuda:0"), dictionary=dictionary)


def test_a_recorded_pass_is_for_whole_and_nearly_whole_batches(gpus):
    encoder = encoder_on("cuda:1", spec=WINDOWS)
    encoder.tune()
    assert encoder._captured is not None
    tiles = np.random.default_rng(0).integers(0, 256, (encoder.batch_tiles, 64, 64, 3), np.uint8)
    expected = encoder_on("cpu", spec=WINDOWS).encode(tiles)
    for count in (len(tiles), len(tiles) - 1, 1):
        before = gpus.replays
        np.testing.assert_allclose(encoder.encode(tiles[:count]).cpu(), expected[:count], rtol=1e-5, atol=1e-6)
        assert gpus.replays - before == (count > len(tiles) // 2)


def test_a_model_that_waits_for_the_gpu_is_not_recorded(gpus):
    images = torch.zeros((2, 64, 64, 3), dtype=torch.uint8, device="cuda:0")
    assert graph.capture(lambda batch: batch.float() * float(batch.float().sum()), images) is None


class TestTheFakeFinds:
    """What would be wrong on a GPU, so that the tests above can fail."""

    def test_a_stream_that_does_not_wait_for_another(self, monkeypatch):
        with pytest.raises(pytest.fail.Exception, match="not have written"), fake_gpus(monkeypatch, count=2):
            self._a_stream_that_does_not_wait_for_another()

    @staticmethod
    def _a_stream_that_does_not_wait_for_another():
        made = torch.ones(3, device="cuda:0") + 1
        with _stream(Stream("cuda:0")):
            (made + 1).cpu()

    def test_pinned_memory_that_is_used_again_too_early(self, monkeypatch):
        with pytest.raises(pytest.fail.Exception, match="pinned memory changed"), fake_gpus(monkeypatch, count=2):
            self._pinned_memory_that_is_used_again_too_early()

    @staticmethod
    def _pinned_memory_that_is_used_again_too_early():
        pinned = torch.empty(3, pin_memory=True)
        pinned.to("cuda:0", non_blocking=True)
        pinned.add_(1)

    def test_memory_that_is_given_back_too_early(self, monkeypatch):
        with pytest.raises(pytest.fail.Exception, match="given back"), fake_gpus(monkeypatch, count=2):
            self._memory_that_is_given_back_too_early()

    @staticmethod
    def _memory_that_is_given_back_too_early():
        made = torch.ones(3, device="cuda:0") + 1
        done = Event()
        done.record()
        side = Stream("cuda:0")
        with _stream(side):
            side.wait_event(done)
            kept = made + 1
        del made
        assert kept.shape == (3,)


def test_the_fake_keeps_devices_apart_and_accepts_what_is_in_order(gpus):
    first, second = torch.ones(3, device="cuda:0"), torch.ones(3, device="cuda:1")
    with pytest.raises(RuntimeError, match="same device"):
        first + second
    with pytest.raises(RuntimeError, match="same device"):
        first + torch.ones(3)
    side, done = Stream("cuda:0"), Event()
    done.record()
    with _stream(side):
        side.wait_event(done)
        assert (first + 1).cpu().tolist() == [2, 2, 2]
    assert WORLD.faults == []
