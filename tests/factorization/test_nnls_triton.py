"""The GPU's solver, run step by step by Triton's interpreter where there is no GPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

_PROGRAM = """
import numpy as np, torch
from conceptseg.factorization._nnls_kernel import allocate, solve_rows
from conceptseg.factorization._nnls_triton import TokenSolver
rng = np.random.default_rng(0)
concepts = np.maximum(rng.normal(size=(6, 20)), 0) + 0.05
concepts[3] = concepts[2]  # a duplicate
concepts[4] = concepts[0] + concepts[1]  # collinear
concepts[5] = 0
tokens = rng.gamma(0.5, size=(4, 6)) @ concepts + 0.3 * rng.random((4, 20))
tokens[1] = 0
gram, correlations = concepts @ concepts.T, tokens @ concepts.T
expected, explained = allocate(4, 6)
solve_rows(gram, correlations, 0, 4, 70, expected, explained)
solver = TokenSolver(torch.from_numpy(gram), torch.from_numpy(correlations), max_steps=70)
solver.solve(torch.arange(4), places=16)
np.testing.assert_allclose(solver.activations.numpy(), expected, rtol=1e-6, atol=1e-9)
np.testing.assert_allclose(solver.explained.numpy(), explained, rtol=1e-9, atol=1e-9)
assert not solver.unfinished.any()
short = TokenSolver(torch.from_numpy(gram), torch.from_numpy(correlations), max_steps=1)
short.solve(torch.tensor([0, 1]), places=16)
assert short.unfinished.tolist() == [True, False, True, True]  # given up, done (nothing to do), not asked for twice
assert not short.activations[0].any()
"""


def test_it_takes_the_same_steps_as_the_compiled_solver():
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
