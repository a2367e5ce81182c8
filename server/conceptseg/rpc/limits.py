"""What one call may ask of the server."""

from __future__ import annotations

from dataclasses import dataclass

from conceptseg.domain.region import PixelGrid
from conceptseg.imaging.tiles import Tile
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.rpc.errors import LimitError

LARGEST_TILE_PX = 4096
"""Side of an encoder tile; beyond it a single forward pass would fill the memory of most machines."""

LARGEST_TOLERANCE_PX = 64.0
"""Outlines that move further have nothing to do with the tissue."""

LARGEST_MARGIN_PX = 2048
"""Surroundings of a region that a client may send; no encoder sees that far."""

MOST_KS = 16
"""Dictionaries of one fit."""


MOST_IMAGES_AT_ONCE = 16
"""Images of a project in work at once; each holds its label map in memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits of a server.

    Attributes:
        message_bytes: Bytes of one message; a raw tile of 2048 × 2048 px needs 12 MiB.
        sent_region_px: Output px of a region whose pixels the client sends that are held in memory at the same time,
            3 bytes each. A larger region streams through, unless the method reads it twice.
        read_region_px: Output px of a region; about 6 bytes each for label and component maps.
        tiles: Tiles that a region may come in.
        call_seconds: Wall time of a call, waiting included.
        stall_seconds: Time that a client may let the server wait, be it for its next message or to take one.
        least_px_per_second: What a client must send for every second that it lets the server wait, once
            ``stall_seconds`` are used up, and bytes that it must take; 0 for no such limit.
        running_calls: Calls that are worked on at the same time. One client has one less, if there are several.
        waiting_calls: Calls that may wait.
        calls_per_client: Calls of one client at the same time, of all kinds: of another computer, or of one connection
            from this one.
    """

    message_bytes: int = 32 << 20
    sent_region_px: int = 800_000_000
    read_region_px: int = 4_000_000_000
    tiles: int = 100_000
    call_seconds: float = 6 * 3600.0
    stall_seconds: float = 120.0
    least_px_per_second: float = 5000.0
    running_calls: int = 4
    waiting_calls: int = 64
    calls_per_client: int = 32

    def require_sent_px(self, window: Tile, *, rows_held: int | None) -> None:
        """Raise LimitError if a region is too large to be sent.

        Args:
            window: The output px that come.
            rows_held: So many of its rows are held at the same time; None for all.
        """
        self._require_px(window.width, window.height, most=self.read_region_px, way_out="--max-read-megapixels")
        held = window.height if rows_held is None else min(window.height, rows_held)
        if window.width * held > self.sent_region_px:
            way_out = "a smaller region" if rows_held else "a smaller region or a method that learns nothing from it"
            raise LimitError(
                f"The region has {window.width} × {window.height} output px with its surroundings, and {held} of its "
                f"rows are needed at the same time. This server holds at most {self.sent_region_px / 1e6:.0f} million "
                f"px of a region that is sent. Choose {way_out}, let the server read the file itself "
                "(readOnServer(true) in a script of QuPath), or start the server with a larger --max-sent-megapixels."
            )

    def require_read_px(self, grid: PixelGrid) -> None:
        """Raise LimitError if a region is too large to be read."""
        self._require_px(grid.width, grid.height, most=self.read_region_px, way_out="--max-read-megapixels")

    def require_settings(self, settings: SegmentSettings) -> None:
        """Raise LimitError for settings that would need unreasonable memory."""
        if settings.tile_px is not None and settings.tile_px > LARGEST_TILE_PX:
            raise LimitError(f"Expected tile_px of at most {LARGEST_TILE_PX}, got {settings.tile_px}.")
        if settings.tolerance_px > LARGEST_TOLERANCE_PX:
            raise LimitError(f"Expected tolerance_px of at most {LARGEST_TOLERANCE_PX:g}, got {settings.tolerance_px}.")

    def _require_px(self, width: int, height: int, *, most: int, way_out: str) -> None:
        if width * height > most:
            raise LimitError(
                f"The region has {width} × {height} output px with its surroundings; this server takes at most "
                f"{most / 1e6:.0f} million. Choose smaller regions, or start the server with a larger {way_out}."
            )
