"""Digests and counts of a text, as canonical JSON: sorted keys, no spaces, one line end.

Characters and words are those of UTF-8; bytes that are no UTF-8 count as replacement characters. Lines are line ends,
and one more for a last line without one.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
from collections.abc import Iterable

ALGORITHMS = ("sha256", "sha3_256", "blake2b", "sha512")


def run(pieces: Iterable[bytes]) -> bytes:
    """JSON of digests, bytes, lines, words and characters; ValueError when DIGEST_ALGORITHM names an unknown one."""
    digests = {name: hashlib.new(name) for name in chosen(os.environ.get("DIGEST_ALGORITHM", "sha256,sha3_256"))}
    count = Counter()
    for piece in pieces:
        for digest in digests.values():
            digest.update(piece)
        count.feed(piece)
    result: dict[str, str | int] = {name: digest.hexdigest() for name, digest in digests.items()}
    result.update(count.finish())
    return json.dumps(result, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def chosen(names: str) -> list[str]:
    """The algorithms of a list like "sha256,sha512"."""
    listed = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in listed if name not in ALGORITHMS]
    if unknown or not listed:
        raise ValueError(f"DIGEST_ALGORITHM={names!r}, known are {', '.join(ALGORITHMS)}")
    return listed


class Counter:
    """Counts over a text that comes in pieces cut anywhere."""

    def __init__(self) -> None:
        self.size = self.lines = self.words = self.characters = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._in_word = False
        self._last = b""

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        self.size += len(piece)
        self.lines += piece.count(b"\n")
        self._last = piece[-1:] or self._last
        self._text(self._decoder.decode(piece))

    def finish(self) -> dict[str, int]:
        """The counts, once all pieces are in."""
        self._text(self._decoder.decode(b"", final=True))
        lines = self.lines + (self._last not in (b"", b"\n"))
        return {"bytes": self.size, "lines": lines, "words": self.words, "characters": self.characters}

    def _text(self, text: str) -> None:
        if text:
            self.characters += len(text)
            self.words += len(text.split()) - (self._in_word and not text[0].isspace())
            self._in_word = not text[-1].isspace()
