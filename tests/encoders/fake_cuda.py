"""GPUs that compute on the CPU and are as unforgiving as real ones about what has not happened yet.

Tensors on them are computed at once, so a run is deterministic. What is checked is the order that the program has asked
for, with a vector clock per stream: a tensor that one stream wrote may be used by another only after it waited for an
event recorded behind, or after the host waited. Memory must not be given back while another stream uses it, and pinned
memory must not change before its copy is done. Tensors of different devices do not meet.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

ATEN = torch.ops.aten
WAITS_FOR_DEVICE = (
    ATEN._local_scalar_dense.default,
    ATEN.item.default,
    ATEN.is_nonzero.default,
    ATEN.nonzero.default,
    ATEN.bincount.default,
    ATEN.equal.default,
    ATEN.masked_select.default,
    ATEN.linalg_inv_ex.default,
)
_real = {
    name: getattr(torch, name) for name in ("empty", "zeros", "ones", "arange", "tensor", "randint", "full", "eye")
}
_real_to, _real_pin = Tensor.to, Tensor.pin_memory


class Stream:
    """The order of what one device does."""

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        self.device = torch.device("cuda", WORLD.device_index if device is None else torch.device(device).index or 0)
        self.now = 0
        self.seen: dict[Stream, int] = {}

    def clock(self) -> dict[Stream, int]:
        return {**self.seen, self: self.now}

    def wait_event(self, event: Event) -> None:
        _merge(self.seen, event.clock)

    def wait_stream(self, other: Stream) -> None:
        _merge(self.seen, other.clock())


class Event:
    """A point in the order of a stream."""

    def __init__(self) -> None:
        self.clock: dict[Stream, int] = {}

    def record(self) -> None:
        self.clock = WORLD.stream().clock()


def _merge(into: dict[Stream, int], clock: dict[Stream, int]) -> None:
    for stream, time in clock.items():
        into[stream] = max(into.get(stream, 0), time)


class Memory:
    """A block of memory of a device: who wrote and who used it last."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream  # that it is given back to; None for a graph's own, which the graph keeps
        self.written: dict[Stream, int] = {}
        self.used: dict[Stream, int] = {}

    def __del__(self) -> None:
        with WORLD.lock:
            for stream, time in self.used.items():
                if self.stream is not None and not WORLD.ordered(stream, time, before=self.stream):
                    WORLD.faults.append("memory was given back while another stream used it")


class World:
    """All fake devices."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.reset(count=0)

    def reset(self, *, count: int) -> None:
        self.count = count
        self.local = threading.local()
        self.default: dict[int, Stream] = {}
        self.host: dict[Stream, int] = {}
        self.faults: list[str] = []
        self.pinned: set[int] = set()
        self.copies: list[tuple[Stream, int, Tensor, bytes]] = []
        self.launches: dict[int, int] = dict.fromkeys(range(count), 0)
        self.replays = 0
        self.keep: list[Any] = []

    @property
    def device_index(self) -> int:
        return getattr(self.local, "device", 0)

    def stream(self, index: int | None = None) -> Stream:
        index = self.device_index if index is None else index
        chosen = getattr(self.local, "streams", {}).get(index)
        if chosen is not None:
            return chosen
        with self.lock:
            if index not in self.default:
                with _device(index):
                    self.default[index] = Stream(torch.device("cuda", index))
            return self.default[index]

    def ordered(self, stream: Stream, time: int, *, before: Stream) -> bool:
        return stream is before or before.seen.get(stream, 0) >= time or self.host.get(stream, 0) >= time

    def synchronize(self, stream: Stream) -> None:
        with self.lock:
            _merge(self.host, stream.clock())
            self.check_copies()

    def check_copies(self) -> None:
        for stream, time, source, content in self.copies:
            if self.host.get(stream, 0) >= time and source.numpy().tobytes() != content:
                self.faults.append("pinned memory changed before its copy was done")
        self.copies = [copy for copy in self.copies if self.host.get(copy[0], 0) < copy[1]]

    def is_pinned(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self.pinned


WORLD = World()


class FakeTensor(Tensor):
    """A tensor that says it is on a GPU."""

    _value: Tensor
    _memory: Memory
    _index: int

    @staticmethod
    def __new__(cls, value: Tensor, index: int, memory: Memory) -> FakeTensor:
        # torch's own code takes it for one of the CPU: for one of a GPU it would ask the driver.
        with torch.inference_mode(False):
            made = Tensor._make_wrapper_subclass(
                cls, value.shape, strides=value.stride(), dtype=value.dtype, device=torch.device("cpu")
            )
        made._value, made._memory, made._index = value, memory, index
        return made

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", self._index)

    def cpu(self, *_: Any) -> Tensor:
        """Wait for the device, and fetch."""
        with WORLD.lock, torch.inference_mode(False), torch.no_grad():
            return _run(ATEN.clone.default, (self,), {}, fetches=True)

    def numpy(self, *_: Any, **__: Any) -> Any:
        """Refuse, as for a tensor of a GPU."""
        raise TypeError("can't convert cuda device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host.")

    def __repr__(self, **_: Any) -> str:
        return f"FakeTensor({tuple(self.shape)}, {self.device})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with WORLD.lock, torch.inference_mode(False), torch.no_grad():
            return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any], *, fetches: bool = False) -> Any:
    flat, _ = tree_flatten((args, kwargs))
    ours = [one for one in flat if isinstance(one, FakeTensor)]
    (index, *others) = {one.device.index for one in ours}
    target = kwargs.get("device")
    if others:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:{index} and others ({func})")
    for one in flat:
        if isinstance(one, Tensor) and not isinstance(one, FakeTensor | torch.nn.Parameter) and one.ndim:
            indexing = func in (ATEN.index.Tensor, ATEN.index_put_.default)
            if not indexing:
                raise RuntimeError(f"Expected all tensors to be on the same device, but found a CPU tensor ({func})")
    stream = WORLD.stream(index)
    masks = func in (ATEN.index.Tensor, ATEN.index_put_.default) and any(
        one is not ours[0] and one.dtype == torch.bool for one in ours[1:]
    )
    waits = func in WAITS_FOR_DEVICE or masks or fetches
    tape = getattr(WORLD.local, "tape", None)
    if waits and tape is not None:
        raise RuntimeError("operation not permitted when stream is capturing")
    written = {
        id(arg)
        for schema, arg in zip(func._schema.arguments, args, strict=False)
        if schema.alias_info is not None and schema.alias_info.is_write
    }
    stream.now += 1
    for one in ours:
        for other, time in one._memory.written.items():
            if not WORLD.ordered(other, time, before=stream):
                WORLD.faults.append(f"{func} uses a tensor that another stream may not have written yet")
        if id(one) in written:
            for other, time in one._memory.used.items():
                if not WORLD.ordered(other, time, before=stream):
                    WORLD.faults.append(f"{func} writes a tensor that another stream may still use")
            one._memory.written[stream] = stream.now
        one._memory.used[stream] = stream.now
    WORLD.launches[index] += 1
    plain_args, plain_kwargs = _plain(args), _plain(kwargs)
    if target is not None:
        plain_kwargs["device"] = torch.device("cpu")
    result = func(*plain_args, **plain_kwargs)
    if waits:
        WORLD.synchronize(stream)
    if fetches:
        return result
    memories = {one._value.untyped_storage().data_ptr(): one for one in ours}

    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if (same := next((one for one in ours if one._value is value), None)) is not None:
            return same
        source = memories.get(value.untyped_storage().data_ptr()) if value.numel() else None
        memory = source._memory if source is not None else Memory(stream if tape is None else None)
        if source is None:
            memory.written[stream] = memory.used[stream] = stream.now
        return FakeTensor(value, index, memory)

    out = tree_map(wrapped, result)
    if tape is not None:
        tape.append((func, plain_args, plain_kwargs, result, ours))
    return out


def _plain(tree: Any) -> Any:
    return tree_map(lambda one: one._value if isinstance(one, FakeTensor) else one, tree)


def _on_device(value: Tensor, device: Any) -> FakeTensor:
    device = torch.device(device)
    index = WORLD.device_index if device.index is None else device.index
    with WORLD.lock:
        stream = WORLD.stream(index)
        stream.now += 1
        memory = Memory(stream)
        memory.written[stream] = memory.used[stream] = stream.now
        return FakeTensor(value, index, memory)


def _factory(name: str) -> Callable[..., Tensor]:
    def make(*args: Any, device: Any = None, pin_memory: bool = False, **kwargs: Any) -> Tensor:
        made: Tensor
        if device is not None and torch.device(device).type == "cuda":
            if torch.device(device).index is not None and torch.device(device).index >= WORLD.count:
                raise RuntimeError("CUDA error: invalid device ordinal")
            return _on_device(_real[name](*args, **kwargs), device)
        made = _real[name](*args, **kwargs) if device is None else _real[name](*args, device=device, **kwargs)
        if pin_memory:
            _pin(made)
        return made

    return make


def _pin(tensor: Tensor) -> Tensor:
    WORLD.pinned.add(tensor.untyped_storage().data_ptr())
    WORLD.keep.append(tensor)  # or its address would be given to another one
    return tensor


def _pin_memory(tensor: Tensor) -> Tensor:
    return _pin(tensor.clone())


def _to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    target = next((one for one in (*args, kwargs.get("device")) if isinstance(one, torch.device | str)), None)
    if target is None or torch.device(target).type != "cuda":
        return self.cpu() if target is not None and isinstance(self, FakeTensor) else _real_to(self, *args, **kwargs)
    index = torch.device(target).index
    index = WORLD.device_index if index is None else index
    dtype = kwargs.get("dtype", self.dtype)
    if isinstance(self, FakeTensor):
        if self.device.index == index:
            return _real_to(self, dtype=dtype)
        value = self.cpu()
    else:
        value = _real_to(self, dtype=dtype)
    if value is self:
        value = value.clone()
    made = _on_device(value, torch.device("cuda", index))
    if kwargs.get("non_blocking") and not isinstance(self, FakeTensor) and WORLD.is_pinned(self):
        with WORLD.lock:
            stream = WORLD.stream(index)
            WORLD.copies.append((stream, stream.now, self, self.numpy().tobytes()))
    return made


@contextlib.contextmanager
def _device(device: Any) -> Iterator[None]:
    before = WORLD.device_index
    index = device if isinstance(device, int) else torch.device(device).index
    WORLD.local.device = before if index is None else index
    try:
        yield
    finally:
        WORLD.local.device = before


@contextlib.contextmanager
def _stream(stream: Stream) -> Iterator[None]:
    index = stream.device.index
    before = getattr(WORLD.local, "streams", {})
    WORLD.local.streams = {**before, index: stream}
    try:
        with _device(index):
            yield
    finally:
        WORLD.local.streams = before


class Graph:
    """What was recorded, to be done again on the same memory."""

    def __init__(self) -> None:
        self.tape: list[Any] = []
        self.index = WORLD.device_index

    def replay(self) -> None:
        with WORLD.lock:
            stream = WORLD.stream(self.index)
            stream.now += 1
            WORLD.replays += 1
            for func, args, kwargs, result, ours in self.tape:
                for one in ours:
                    one._memory.used[stream] = one._memory.written[stream] = stream.now
                again = func(*args, **kwargs)
                for old, new in zip(tree_flatten(result)[0], tree_flatten(again)[0], strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


@contextlib.contextmanager
def _capture(graph: Graph, capture_error_mode: str = "global") -> Iterator[None]:
    assert capture_error_mode == "thread_local", "other threads allocate pinned memory meanwhile"
    side = Stream(torch.device("cuda", graph.index))
    side.wait_stream(WORLD.stream(graph.index))
    WORLD.local.tape = graph.tape
    try:
        with _stream(side):
            yield
    finally:
        WORLD.local.tape = None
        WORLD.stream(graph.index).wait_stream(side)


@contextlib.contextmanager
def fake_gpus(monkeypatch: pytest.MonkeyPatch, *, count: int) -> Iterator[World]:
    """A computer with ``count`` GPUs; in the end they must have found no fault.

    Weights stay where they are: only what is computed moves.
    """
    WORLD.reset(count=count)
    for name in _real:
        monkeypatch.setattr(torch, name, _factory(name))
    monkeypatch.setattr(Tensor, "to", _to)
    monkeypatch.setattr(Tensor, "cuda", lambda self: self.to("cuda"))
    monkeypatch.setattr(Tensor, "pin_memory", _pin_memory)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *_, **__: self)
    for name, value in {
        "Stream": Stream,
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": _capture,
        "stream": _stream,
        "device": _device,
        "current_stream": lambda device=None: WORLD.stream(None if device is None else torch.device(device).index),
        "synchronize": lambda: WORLD.synchronize(WORLD.stream()),
        "empty_cache": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: count,
        "get_device_capability": lambda _=None: (9, 0),
        "get_device_name": lambda _=None: "Fake GPU",
        "mem_get_info": lambda _=None: (6 << 30, 8 << 30),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    yield WORLD
    for stream in list(WORLD.default.values()):
        WORLD.synchronize(stream)
    WORLD.check_copies()
    if WORLD.faults:
        pytest.fail("; ".join(np.unique(WORLD.faults)))
