"""The most frequent words of a text of any size: lines `count word`, most frequent first, equal counts by word.

A word is a run of ASCII letters, digits and bytes above 127 (so of UTF-8 letters), lower-cased in ASCII. Memory grows
with the number of different words, of which MAX_WORDS are allowed, and not with the size of the text.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator

MAX_WORDS = 2_000_000
MAX_LENGTH = 256  # bytes; the rest of a longer word is another word
WORD = re.compile(rb"[0-9a-z\x80-\xff]{1,%d}" % MAX_LENGTH)
WORD_BYTES = b"0123456789abcdefghijklmnopqrstuvwxyz" + bytes(range(0x80, 0x100))


def run(pieces: Iterable[bytes]) -> bytes:
    """The TOP (environment, default 100) most frequent words; ValueError for a wrong TOP or too many different words."""
    top = os.environ.get("TOP", "100")
    if not top.isdecimal() or not 1 <= int(top) <= 100_000:
        raise ValueError(f"TOP={top!r}, it has to be a number from 1 to 100000")
    count: Counter[bytes] = Counter()
    for text in whole_words(pieces):
        count.update(WORD.findall(text))
        if len(count) > MAX_WORDS:
            raise ValueError(f"more than {MAX_WORDS} different words")
    best = sorted(count.items(), key=lambda item: (-item[1], item[0]))[: int(top)]
    return b"".join(b"%d %s\n" % (number, word) for word, number in best)


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
