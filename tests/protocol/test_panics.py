from __future__ import annotations

import pytest
from ergo_lib_python.chain import ErgoBoxCandidate
from ergo_lib_python.ergo_tree import ErgoTree

from aihd.protocol.panics import PanicError, contained


def test_contained__when__ergo_lib_panics__then__an_ordinary_error() -> None:
    tiny = ErgoTree.from_bytes(bytes.fromhex("10010101d17300"))
    with pytest.raises(PanicError, match=r"ergo-lib panicked: .*OutOfBounds"):
        contained(lambda: ErgoBoxCandidate(value=10**9, script=tiny, creation_height=500))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_contained__when__something_else_is_raised__then__it_passes(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error("as it was")

    with pytest.raises(error, match="as it was"):
        contained(fail)
