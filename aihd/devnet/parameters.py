"""The numbers that a network votes on and that operators set, as a node of the main net shows them in 2026."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

BlockVersion = Literal[3, 4]

MAX_TX_COST: Final = (
    4_900_000  # block cost units, policy of the main net; 800,000 on the test net, 1,000,000 by default
)
_PARAMETERS: Final[Mapping[str, Any]] = {
    "outputCost": 298,
    "tokenAccessCost": 100,
    "maxBlockCost": 8_001_091,
    "height": 0,
    "maxBlockSize": 1_271_009,
    "dataInputCost": 100,
    "blockVersion": 4,
    "inputCost": 2407,
    "storageFeeFactor": 1_250_000,
    "subblocksPerBlock": 30,
    "minValuePerByte": 360,
}


def parameters_of(version: BlockVersion) -> dict[str, Any]:
    """`/info.parameters` of a chain whose blocks have this version; before version 4 there are no subblocks."""
    return {**_PARAMETERS, "blockVersion": version, **({"subblocksPerBlock": None} if version < 4 else {})}
