"""Room on the disk: whether there is enough to take on work, and a reserve for the records of what was taken on.

A file of RESERVE bytes lies in the data folder from the start. When the disk is full it is given up, so that journal and receipts can be
written; when there is room again it is made anew. Quotas and failing disks are found by writing, since nobody tells of them.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from aihd.ops.failpoints import fail

RESERVE: Final = 16_000_000
PROBE: Final = 4096
_RESERVE_NAME: Final = "reserve"
_PROBE_NAME: Final = ".probe"


class Room:
    """The disk under a folder; `floor` is how many bytes have to be free for new work."""

    def __init__(self, folder: Path, floor: int, reserve: int = RESERVE) -> None:
        self._folder = folder
        self._floor = floor
        self._reserve = reserve

    def look(self) -> str:
        """Why no new work is to be taken on; empty when there is room. Gives the reserve up, or makes it anew."""
        try:
            fail("disk probe")
            self._write(_PROBE_NAME, PROBE)
        except OSError as error:
            self.give_up()
            return f"the disk of {self._folder} takes nothing now ({error.strerror})"
        free = shutil.disk_usage(self._folder).free
        if free < self._reserve // 4:
            self.give_up()  # before a record meets a full disk
        if not self._kept():
            if free >= self._floor + self._reserve:
                self._keep()
            return "" if self._kept() else self._short(free)
        return "" if free >= self._floor else self._short(free)

    def give_up(self) -> None:
        """The reserve is free for what must be written."""
        with suppress(OSError):
            (self._folder / _RESERVE_NAME).unlink(missing_ok=True)

    def _short(self, free: int) -> str:
        wanted = self._floor + (0 if self._kept() else self._reserve)
        return f"{self._folder} has {free / 10**6:.1f} MB of room, new tasks need {wanted / 10**6:.1f} MB"

    def _kept(self) -> bool:
        try:
            return (self._folder / _RESERVE_NAME).stat().st_size >= self._reserve
        except OSError:
            return False

    def _keep(self) -> None:
        try:
            self._write(_RESERVE_NAME, self._reserve)
        except OSError:
            self.give_up()

    def _write(self, name: str, size: int) -> None:
        path = self._folder / name
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            left = size
            while left:
                left -= os.write(handle, bytes(min(1 << 20, left)))
            os.fsync(handle)
        finally:
            os.close(handle)
            if name == _PROBE_NAME:
                path.unlink(missing_ok=True)
