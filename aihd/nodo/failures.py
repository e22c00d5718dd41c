# ruff: noqa: N818 - the name of a failure is its kind
"""What can go wrong between us and nodo's gateway: five kinds, because they lead to different acts.

The node refused (`Refused`), nobody answered (`Unreachable`, `TooSlow`: whether the node acted is unknown), the node does
not hold the service yet (`UnknownService`), or what came back is not what the protocol promises (`BrokenAnswer`). Three
refusals have a cure of their own: `Quarantined` passes with time, `UnknownClient` with a new client id, `NoCredit` when the operator of
the node gives our client id credit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import grpc

from aihd.errors import DependencyError, one_line

QUARANTINE = 300.0
"""Seconds for which nodo shuts out a client that called too often."""

_UNKNOWN_CLIENT = re.compile(r"requires a client_id|client.id not provided", re.IGNORECASE)
_NO_CREDIT = re.compile(r"error spending (gas|mu|balance)", re.IGNORECASE)
_TOO_FAST = re.compile(r"calling too fast|quarantined", re.IGNORECASE)


class GatewayError(DependencyError):
    """A call to nodo's gateway gave no usable answer."""


class Refused(GatewayError):
    """The node said no; the text is the node's own."""


class Quarantined(Refused):
    """The node shuts our client id out for calling too often; `seconds` until a call can be right again."""

    def __init__(self, text: str, seconds: float = QUARANTINE) -> None:
        super().__init__(text)
        self.seconds = seconds


class UnknownClient(Refused):
    """The node does not know our client id: it was never minted here, or forgotten since. A new one can be minted."""


class NoCredit(Refused):
    """Our client id has less at the node than what it asked for costs."""


class Unreachable(GatewayError):
    """The connection could not be made, or broke. In the second case the node may have acted."""


class TooSlow(GatewayError):
    """No answer in time; the node may have acted."""


class UnknownService(GatewayError):
    """The node has no such service. It looks for it among its peers from now on, so a later call may succeed."""


class BrokenAnswer(GatewayError):
    """The answer is not what the protocol promises."""


def from_status(
    method: str, error: grpc.aio.AioRpcError, timeout: float | None, secrets: Iterable[str] = ()
) -> GatewayError:
    """The failure that a call's status stands for. `secrets` are cut out of the node's text, which repeats tokens."""
    text = (error.details() or error.code().name).removeprefix("Exception iterating responses: ")
    for secret in filter(None, secrets):
        text = text.replace(secret, "(token)")
    text = f"{method}: {one_line(Exception(text))}"
    match error.code():
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return Unreachable(text)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return TooSlow(f"{method}: no answer" if timeout is None else f"{method}: no answer within {timeout:g} s")
        case grpc.StatusCode.UNIMPLEMENTED | grpc.StatusCode.INTERNAL | grpc.StatusCode.RESOURCE_EXHAUSTED:
            return BrokenAnswer(text)
        case _:
            return _refusal(text)


def _refusal(text: str) -> Refused:
    if _TOO_FAST.search(text):
        return Quarantined(text)
    if _NO_CREDIT.search(text):
        return NoCredit(text)
    return UnknownClient(text) if _UNKNOWN_CLIENT.search(text) else Refused(text)


def made_up(error: grpc.aio.AioRpcError) -> bool:
    """Whether a status is grpc.aio's own, and the node's is lost: so when it ends a call while we send (grpc #36066).

    What was being sent did not arrive.
    """
    return error.code() is grpc.StatusCode.INTERNAL and "SendMessageOperation" in (error.debug_error_string() or "")
