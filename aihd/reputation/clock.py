"""A party's own clock: it runs on the days on which the party is rated, so that recent work means its last work, however long it rested.

Promise: a reading depends on the party's counted ratings up to that day alone; ticks are taken back in the reverse order.
"""

from __future__ import annotations

from typing import Final

from aihd.reputation.fixed import BLOCKS_PER_DAY

LONGEST_REST: Final = 7  # days that the clock runs between two ratings, however long they are apart


class Clock:
    """Readings, in days, of the days on which a party was rated."""

    __slots__ = ("_days",)

    def __init__(self) -> None:
        self._days: dict[int, tuple[int, int]] = {}  # day of the chain: reading, ratings; the newest last

    def tick(self, height: int) -> None:
        """A rating at this height counts from now on: not below the last one."""
        day = height // BLOCKS_PER_DAY
        newest = next(reversed(self._days), day)
        reading, ratings = self._days.get(newest, (0, 0))
        if day == newest:
            self._days[day] = (reading, ratings + 1)
        else:
            self._days[day] = (reading + min(day - newest, LONGEST_REST), 1)

    def untick(self) -> None:
        """The newest rating counts no longer."""
        day, (reading, ratings) = self._days.popitem()
        if ratings > 1:
            self._days[day] = (reading, ratings - 1)

    def reading(self, height: int) -> int:
        """Of a day on which a counted rating lies."""
        return self._days[height // BLOCKS_PER_DAY][0]
