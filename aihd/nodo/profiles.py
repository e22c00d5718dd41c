"""The versions of nodo that are in use, and in what the gateway of each differs for a client.

Which one answers is found by asking (`detect`), never by what a file says: a node may run older code than its folder.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from aihd.nodo.failures import BrokenAnswer

Unit = Literal["gas", "MU"]


@dataclass(frozen=True, slots=True)
class Profile:
    """One version. `service` is the gRPC service of its methods.

    `marker`: a method that this version has and the versions before it in `NEWEST_FIRST` order of `service` have not.
    `wrapped`: configuration and instance travel in messages of the gateway's own. `mints`: the node chooses client ids.
    `gated`: calls need a client id that it minted, and are counted. `tunnel`: ServiceTunnel carries bytes. `rows`: its database names the
    instances that run. `trust`: what an operator does so that a client id has credit, with the places {client} and {amount}.
    """

    name: str
    service: str
    marker: str
    unit: Unit
    wrapped: bool = False
    mints: bool = True
    gated: bool = False
    tunnel: bool = False
    rows: bool = True
    trust: str = "`nodo credit_client {client} {amount}`"


_DEBT: Final = "set ALLOW_GAS_DEBT to true in {file} and restart nodo (it has no command that gives a client credit)"
V24: Final = Profile(
    "V24", "gateway.Gateway", "GetMetrics", "gas", wrapped=True, rows=False, trust=_DEBT.format(file="nodo's .env")
)
VFEB: Final = Profile("VFEB", "celaut.Gateway", "GetMetrics", "gas", trust=_DEBT.format(file="nodo's config.yaml"))
VJUL: Final = Profile("VJUL", "celaut.Gateway", "ModifyDeposit", "MU", tunnel=True)
VNEW: Final = Profile("VNEW", "celaut.Gateway", "AssociateClient", "MU", mints=False, gated=True, tunnel=True)
NEWEST_FIRST: Final = (VNEW, VJUL, VFEB, V24)


async def detect(implements: Callable[[str, str], Awaitable[bool]]) -> Profile:
    """The newest version whose marker the gateway implements; `implements(service, method)` asks it.

    BrokenAnswer when it implements none: what listens there is no gateway of nodo.
    """
    for profile in NEWEST_FIRST:
        if await implements(profile.service, profile.marker):
            return profile
    raise BrokenAnswer("what answers is no gateway of nodo: it has neither celaut.Gateway nor gateway.Gateway")
