"""The exact projection against scikit-learn's, on real features; and upsampling + argmax in one pass."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from common import result, side_by_side, tissue
from scipy.optimize import nnls
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from conceptseg.encoders.load import load_encoder
from conceptseg.factorization.activations import ActivationMap, ActivationMapBuilder
from conceptseg.factorization.learn import reference_projection
from conceptseg.factorization.nnls import NonNegativeProjector
from conceptseg.factorization.upsample import upsample_argmax

KS = (16, 64, 256)
RUNS = 5


def measure() -> Iterator[dict[str, Any]]:
    """Yield ``projection_k16/64/256`` for both encoders (ResNet50's names carry its own), and ``upsample_argmax``."""
    pixels, source = tissue(1024, 1024)
    with threadpool_limits(2):
        torch.set_num_threads(2)
        yield _upsampling(pixels, source=source)
        for encoder in ("default", "resnet50"):
            features = load_encoder(encoder, device="cpu", random_weights=encoder != "default").encode(pixels[None])
            tokens = features.reshape(-1, features.shape[3]).numpy()
            for k in KS:
                yield _projection(encoder, tokens, k=k, source=source)


def _dictionary(tokens: np.ndarray, k: int) -> np.ndarray:
    centres = MiniBatchKMeans(k, random_state=0, n_init=1, batch_size=4096).fit(tokens).cluster_centers_
    return np.maximum(centres, 0).astype(np.float32)


def _projection(encoder: str, tokens: np.ndarray, *, k: int, source: str) -> dict[str, Any]:
    concepts = _dictionary(tokens, k)
    projector = NonNegativeProjector(concepts)
    projector.project(torch.from_numpy(tokens[:64]))
    # At k = 256 scikit-learn takes minutes for all tokens: there each of the five runs gets another fifth of them.
    parts = [tokens[run::RUNS] for run in range(RUNS)] if k > 64 else [tokens] * RUNS
    ours, theirs, gaps = [], [], []
    for part in parts:
        part = np.ascontiguousarray(part)
        started = time.perf_counter()
        mine = NonNegativeProjector(concepts).project(torch.from_numpy(part))
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        reference = reference_projection(part, concepts)
        theirs.append(time.perf_counter() - started)
        optimum, reached = (_objective(part, a, concepts) for a in (mine.activations, reference))
        gaps.append(reached / optimum - 1)
    sample = tokens[:: 1 if k <= 64 else 4]
    exact = np.stack([nnls(concepts.T.astype(np.float64), x.astype(np.float64), maxiter=50 * k)[0] for x in sample])
    mine = projector.project(torch.from_numpy(np.ascontiguousarray(sample)))
    return result(
        f"projection_k{k}" + ("" if encoder == "default" else f"_{encoder}"),
        ours=statistics.median(ours),
        baseline=statistics.median(theirs),
        tokens_per_run=len(parts[0]),
        runs=RUNS,
        channels=tokens.shape[1],
        weights="ImageNet" if encoder == "default" else "random",
        image=source,
        objective_gap=f"the reference ends {min(gaps):.2e} to {max(gaps):.2e} above ours",
        never_above_reference=bool(min(gaps) >= -1e-9),
        label_agreement=float((mine.activations.argmax(1) == exact.argmax(1)).mean()),
        label_agreement_tokens=len(sample),
        gap_to_exact=float(_objective(sample, mine.activations, concepts) / _objective(sample, exact, concepts) - 1),
        condition=float(np.linalg.cond(concepts.astype(np.float64) @ concepts.T.astype(np.float64))),
    )


def _objective(tokens: np.ndarray, activations: np.ndarray, concepts: np.ndarray) -> float:
    difference = tokens.astype(np.float64) - activations.astype(np.float64) @ concepts.astype(np.float64)
    return float((difference**2).sum())


def _upsampling(pixels: np.ndarray, *, source: str) -> dict[str, Any]:
    """k = 256 on 1024² px: our kernel against torch's bilinear interpolation and argmax."""
    features = load_encoder("default", device="cpu").encode(pixels[None])
    tokens = features.reshape(-1, features.shape[3])
    activations = NonNegativeProjector(_dictionary(tokens.numpy(), 256)).project(tokens).activations
    rows, columns = np.divmod(np.arange(len(tokens)), 64)
    builder = ActivationMapBuilder(grid_h=64, grid_w=64, n_concepts=256)
    builder.add(activations, rows=rows, columns=columns)
    sparse: ActivationMap = builder.build()
    dense = torch.from_numpy(sparse.dense())[None]

    def theirs() -> np.ndarray:
        return torch.nn.functional.interpolate(dense, (1024, 1024), mode="bilinear")[0].argmax(0).numpy() + 1

    def ours() -> np.ndarray:
        return upsample_argmax(sparse, stride_px=16, height=1024, width=1024)

    agreement = float((ours() == theirs()).mean())
    mine, reference = side_by_side(ours, theirs)
    return result("upsample_argmax_k256", ours=mine, baseline=reference, label_agreement=agreement, image=source)


if __name__ == "__main__":
    for line in measure():
        print(line, flush=True)
