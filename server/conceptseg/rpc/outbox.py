"""What a run tells, on its way to the client."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from conceptseg.pipeline.batch import Image, ImageProgress, ImageStarted, RunEvent, RunStarted
from conceptseg.rpc import convert
from conceptseg.v1 import project_pb2


class Outbox:
    """Keeps events until they are sent; of an image's progress only the latest, however slow the client is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[RunEvent] = []
        self._progress: dict[Image, ImageProgress] = {}

    def put(self, event: RunEvent) -> None:
        """Keep an event."""
        with self._lock:
            if isinstance(event, ImageProgress):
                self._progress[event.image] = event
            else:
                self._events.append(event)

    def take(self) -> Iterator[project_pb2.AnnotateProjectEvent]:
        """The events since the last time."""
        with self._lock:
            events, self._events = self._events, []
            progress, self._progress = self._progress, {}
        finished = {event.image for event in events if not isinstance(event, RunStarted | ImageStarted)}
        yield from map(convert.run_event_to_proto, events)
        yield from (convert.run_event_to_proto(step) for image, step in progress.items() if image not in finished)
