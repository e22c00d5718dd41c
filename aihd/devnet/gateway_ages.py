"""What nodo charges and declares in each of its versions, as far as the embedded gateway plays it.

Read from nodo's code of each age: cost functions, `free_tier`, `ledgers.py`, `migrate.py`. Amounts are in the node's unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from aihd.devnet.nodo_schema import NodoVersion
from aihd.nodo.profiles import V24, VFEB, VJUL, VNEW

UNITS_PER_ERG: Final = 10**9  # at nodo's own default of one MU for one nanoERG
FORMAL: Final = b"asset.native=ERG\nasset.native.base_unit=nanoERG\nchain=ergo\nnetwork=mainnet"
"""How the newest version describes its ledger; before it a ledger was its tag alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Age:
    """One version's money. `build` is charged at the first start of a service and never given back, `deposit` at each start.

    `upkeep`: what an estimate names for each period. `returns`: what is left of a deposit goes back to the client when the instance
    stops; where it does not, the refund is only told. `rate`: units for ERG as GetPeerInfo declares them, None where it declares none; for
    one nanoERG where the ledger has a `formal` part, for a whole ERG where it has none. `docker`: instances are containers, whose ports
    Docker accepts for before anybody listens. `hashed`: the addresses of peers are kept as the hex of their tree.
    """

    schema: NodoVersion
    build: int = 10_000_000
    deposit: int = 1_000_000
    upkeep: int = 1_000
    returns: bool = True
    rate: int | None = UNITS_PER_ERG
    formal: bytes = b""
    docker: bool = False
    hashed: bool = True


_NEWEST: Final = Age(schema=NodoVersion.VNEW, rate=1, formal=FORMAL)
AGES: Final[Mapping[str, Age]] = {
    V24.name: Age(
        schema=NodoVersion.V24, build=5, deposit=10**9, upkeep=256, returns=False, rate=None, docker=True, hashed=False
    ),
    VFEB.name: Age(schema=NodoVersion.VFEB, build=5, returns=False, rate=None, docker=True, hashed=False),
    VJUL.name: Age(schema=NodoVersion.VJUL),
    VNEW.name: _NEWEST,
}
AUGUST: Final = replace(_NEWEST, rate=UNITS_PER_ERG, formal=b"")
"""The newest gateway before its ledger was described: it declares for a whole ERG."""
