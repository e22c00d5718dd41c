"""The most frequent words of a text of any size: lines `count word`, most frequent first, equal counts by word.

A word is a run of ASCII letters, digits and bytes above 127 (so of UTF-8 letters), lower-cased in ASCII. Memory grows
neither with the text nor with the number of different words: beyond IN_MEMORY of them the counts so far go to files,
each word always to the same one, and the files are added up one after another.
"""

from __future__ import annotations

import heapq
import os
import re
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import IO

IN_MEMORY = 200_000
PARTS = 32
MAX_LENGTH = 256  # bytes; the rest of a longer word is another word
WORD = re.compile(rb"[0-9a-z\x80-\xff]{1,%d}" % MAX_LENGTH)
WORD_BYTES = b"0123456789abcdefghijklmnopqrstuvwxyz" + bytes(range(0x80, 0x100))

Counts = Iterable[tuple[bytes, int]]


def run(pieces: Iterable[bytes]) -> bytes:
    """The TOP (environment, default 100) most frequent words; ValueError for a wrong TOP."""
    top = os.environ.get("TOP", "100")
    if not top.isdecimal() or not 1 <= int(top) <= 100_000:
        raise ValueError(f"TOP={top!r}, it has to be a number from 1 to 100000")
    with ExitStack() as stack:
        parts = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(PARTS)]
        count: Counter[bytes] = Counter()
        for text in whole_words(pieces):
            count.update(WORD.findall(text))
            if len(count) > IN_MEMORY:
                spill(count, parts)
        spill(count, parts)
        best = most((pair for part in parts for pair in most(added_up(part).items(), int(top))), int(top))
    return b"".join(b"%d %s\n" % (number, word) for word, number in best)


def spill(count: Counter[bytes], parts: Sequence[IO[bytes]]) -> None:
    """Empty `count` into the files."""
    for word, number in count.items():
        parts[zlib.crc32(word) % PARTS].write(b"%d %s\n" % (number, word))
    count.clear()


def added_up(part: IO[bytes]) -> Counter[bytes]:
    """The counts of one file's words."""
    part.seek(0)
    count: Counter[bytes] = Counter()
    for line in part:
        number, word = line.split(maxsplit=1)
        count[word.rstrip(b"\n")] += int(number)
    return count


def most(counts: Counts, top: int) -> list[tuple[bytes, int]]:
    """The `top` most frequent, equal counts by word."""
    return heapq.nsmallest(top, counts, key=lambda item: (-item[1], item[0]))


def whole_words(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces in lower case, cut between words instead of anywhere."""
    rest = b""
    for piece in pieces:
        text = rest + piece.lower()
        start = len(text.rstrip(WORD_BYTES))
        # Hold back the last word, which may go on, but not the full lengths in it: WORD would cut there, too.
        start += (len(text) - start) // MAX_LENGTH * MAX_LENGTH
        yield text[:start]
        rest = text[start:]
    yield rest
