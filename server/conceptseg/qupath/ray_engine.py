"""Slides as tasks of a Ray cluster. Ray is an extra: it is imported here, and only when asked for."""

from __future__ import annotations

import os
import socket
from concurrent.futures import Future
from importlib import import_module
from typing import Any

import torch

from conceptseg.domain.errors import ConceptSegError, InvalidRequestError, WorkerLostError
from conceptseg.domain.progress import ReportProgress, never_cancelled, report_nothing
from conceptseg.pipeline.batch import SegmentRegion
from conceptseg.qupath.slide import Segmented, SlideTask, segment_slide

_LISTENER_SECONDS = 10.0


class RayTasks:
    """Worker processes of a cluster, each with an encoder of its own that it keeps from slide to slide."""

    def __init__(
        self,
        segment: SegmentRegion,
        *,
        jobs: int | None = None,
        address: str | None = None,
        cpus: float = 1.0,
        gpus: float | None = None,
    ) -> None:
        """Connect to a cluster, or start one on this computer.

        Args:
            segment: Segments a region; can be pickled.
            jobs: Slides in work at once; None for as many as the cluster has GPUs or, without any, computers.
            address: Of a running cluster, as Ray takes it; None for a new one on this computer, which ends with the
                run.
            cpus: CPUs that a slide reserves.
            gpus: GPUs that a slide reserves, fractions allowed; None to share those of the cluster between the jobs.

        Raises:
            InvalidRequestError: Ray is not installed, there is no such cluster, or it will never have such a worker.
        """
        try:
            ray: Any = import_module("ray")
        except ImportError as error:
            raise InvalidRequestError(
                "--engine ray needs Ray. Install it with `pip install 'conceptseg[ray]'`."
            ) from error
        self._ray = ray
        if address is not None:
            _require_listener(address)
        # Convolutions round differently with another number of threads, and Ray would give a worker one thread.
        threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        try:
            ray.init(
                address=address or "local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level="error",
                runtime_env={"env_vars": threads},
            )
        except (ray.exceptions.RayError, ConnectionError, ValueError, RuntimeError) as error:
            raise _no_cluster(address or "this computer", error) from error
        resources = ray.cluster_resources()
        there = int(resources.get("GPU", 0))
        nodes = sum(1 for node in ray.nodes() if node["Alive"])
        self.slots = jobs or there or nodes
        share = min(1.0, there / self.slots) if gpus is None else gpus
        if cpus > resources.get("CPU", 0) or share > there:
            ray.shutdown()
            raise InvalidRequestError(
                f"The Ray cluster has {resources.get('CPU', 0):g} CPUs and {there} GPUs, a slide would need {cpus:g} "
                f"and {share:g}. Ask for less with --worker-cpus and --worker-gpus."
            )
        # No retries by Ray: the run knows which slides were lost, and gives them out again.
        self._remote = ray.remote(num_cpus=cpus, num_gpus=share, max_retries=0)(_segment_slide)
        self._segment = ray.put(segment)
        self._working: set[Any] = set()

    def submit(self, task: SlideTask, *, progress: ReportProgress) -> Future[Segmented]:  # noqa: ARG002 - see below
        """See `Engine.submit`; tiles are not reported, since that would cost a message each."""
        reference = self._remote.remote(task, self._segment)
        self._working.add(reference)
        answer: Future[Segmented] = Future()

        def finish(ended: Future[Any]) -> None:
            self._working.discard(reference)
            try:
                good, found = ended.result()
            except self._ray.exceptions.RayTaskError as error:
                answer.set_exception(error.cause or error)
            except (self._ray.exceptions.RayError, OSError) as error:
                answer.set_exception(
                    WorkerLostError(
                        f"{task.entry.name}: the Ray worker that segmented it was lost ({type(error).__name__}). If "
                        "its memory was full, reserve more per slide with --worker-cpus."
                    )
                )
            else:
                answer.set_result(found) if good else answer.set_exception(found)

        reference.future().add_done_callback(finish)
        return answer

    def close(self) -> None:
        """See `Engine.close`."""
        for reference in list(self._working):
            self._ray.cancel(reference, force=True)
        self._ray.shutdown()


def _require_listener(address: str) -> None:
    """Raise InvalidRequestError at once for a computer that does not listen; Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), _LISTENER_SECONDS).close()
    except OSError as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> InvalidRequestError:
    return InvalidRequestError(
        f"No Ray cluster at {address}: {error}. Start one with `ray start --head`, or leave out --ray-address for one "
        "that lives as long as the run."
    )


def _segment_slide(task: SlideTask, segment: SegmentRegion) -> tuple[bool, Segmented | ConceptSegError]:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    try:
        return True, segment_slide(task, segment, progress=report_nothing, cancelled=never_cancelled)
    except ConceptSegError as error:
        return False, error
