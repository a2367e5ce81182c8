"""Mixtures planted in the published UNI dictionary: how well they are found again, ours and scikit-learn's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from common import SHARED, result
from planted import NOISE, coefficient_error, label_accuracy, plant, uni_dictionary

from conceptseg.factorization.learn import reference_projection
from conceptseg.factorization.nnls import NonNegativeProjector

KS = (16, 64)
TOKENS = 1000


def measure() -> Iterator[dict[str, Any]]:
    """Yield ``planted_k16_noise0.01`` and so on: the error of the coefficients; labels and seconds in the detail."""
    for k in KS:
        concepts, source = uni_dictionary(SHARED, k=k)
        projector = NonNegativeProjector(concepts)
        projector.project(torch.from_numpy(concepts))  # compiled
        for noise in NOISE:
            features, mixtures = plant(concepts, tokens=TOKENS, noise=noise)
            started = time.perf_counter()
            ours = projector.project(torch.from_numpy(features)).activations
            between = time.perf_counter()
            theirs = reference_projection(features, concepts)
            seconds = between - started, time.perf_counter() - between
            yield result(
                f"planted_k{k}_noise{noise}",
                ours=coefficient_error(ours, mixtures),
                baseline=coefficient_error(theirs, mixtures),
                unit="relative error",
                label_accuracy=label_accuracy(ours, mixtures),
                label_accuracy_scikit_learn=label_accuracy(theirs, mixtures),
                seconds=seconds[0],
                seconds_scikit_learn=seconds[1],
                tokens=TOKENS,
                dictionary=source,
                condition=float(np.linalg.cond(concepts.astype(np.float64) @ concepts.T.astype(np.float64))),
            )


if __name__ == "__main__":
    for line in measure():
        print(line, flush=True)
