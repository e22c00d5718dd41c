"""Client of nodo's Gateway, for every version of it in use: start a service, speak to it, stop it, ask what it costs.

The first call finds out what answers there (TLS or plaintext, which version), and so does the first one after a connection
that broke: nodo may have come back with another certificate, or as another version. Failures are those of `failures`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from aihd.errors import UsageError
from aihd.nodo import tunnel as tunnels
from aihd.nodo.calls import Call, Connection
from aihd.nodo.database import holds_instance
from aihd.nodo.failures import (
    BrokenAnswer,
    GatewayError,
    NoCredit,
    Quarantined,
    Refused,
    TooSlow,
    UnknownClient,
    UnknownService,
    Unreachable,
)
from aihd.nodo.gate import Gate
from aihd.nodo.hashing import ALGORITHMS, DEFAULT, HASH_BYTES
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb import aihd_gateway_2024_pb2 as old
from aihd.nodo.pow import solve_pow
from aihd.nodo.pricing import Estimate, Per, Rate
from aihd.nodo.profiles import Profile
from aihd.nodo.resources import Resources
from aihd.nodo.transport import Security
from aihd.nodo.tunnel import Tunnel

__all__ = [
    "BrokenAnswer",
    "Endpoint",
    "GatewayClient",
    "GatewayError",
    "NoCredit",
    "Quarantined",
    "Refused",
    "Resources",
    "ServiceInstance",
    "TooSlow",
    "Tunnel",
    "UnknownClient",
    "UnknownService",
    "Unreachable",
]

STOP_PAUSE: Final = 0.5  # seconds between two looks at an instance that should be gone
SEED: Final = "AIH_SEED"
"""The variable that a run is told apart by. An empty one stands in an order that has no other: nodo's library drops an empty message."""

StillThere: TypeAlias = Callable[[str], Awaitable[bool]]
"""Whether the container of an instance's token is still there: what an engine says."""

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a slot of an instance listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ServiceInstance:
    """A running instance. `token` is a bearer credential (whoever has it can stop the instance): never publish it.

    `slots` maps the port that the service declared to the addresses where it is reached. The node answers when the
    instance's network is up: the port may begin to listen later.
    """

    token: str = field(repr=False)
    slots: Mapping[int, tuple[Endpoint, ...]]


class GatewayClient:
    """`async with GatewayClient("192.168.200.1:50001") as gateway: ...`; nothing is sent before the first call."""

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 30.0,
        security: Security = "auto",
        peer_id: str | None = None,
        profile: Profile | None = None,
        hash_algorithm: str = DEFAULT,
        gate: Gate | None = None,
    ) -> None:
        """`address` is host:port; `timeout` in seconds bounds each call that takes no timeout of its own.

        `peer_id`: the node that must be there (TLS only). `profile`: its version, if it shall not be asked.
        `hash_algorithm`: how this node names its services. `gate`: keeps our calls below nodo's limit.
        """
        if hash_algorithm not in ALGORITHMS:
            raise UsageError(f"hash algorithm {hash_algorithm!r} should be one of {', '.join(ALGORITHMS)}")
        self._timeout = timeout
        self._hash_type = ALGORITHMS[hash_algorithm](b"")  # nodo names an algorithm by its hash of nothing
        self._gate = gate or Gate()
        self._connection = Connection(address, timeout, security, peer_id, profile)

    async def __aenter__(self) -> Self:
        self._connection.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    async def profile(self) -> Profile:
        """The version of nodo that answers."""
        return await self._connection.profile()

    async def peer_id(self) -> str | None:
        """The node's identity, proved by its certificate; None over plaintext."""
        return await self._connection.peer_id()

    async def generate_client(self) -> str:
        """A client id that the node has accepted, to be kept; paid for with work if the node asks for it.

        32 hex digits of our own choice; versions before August 2026 choose another, in their own form.
        """
        client_id = uuid.uuid4().hex
        kinds: dict[int, type[Message]] = {1: pb.Client, 2: pb.PoWRequired}
        answer = await self._connection.ask(
            "GenerateClient", [(1, pb.Client(client_id=client_id))], kinds, self._timeout
        )
        if isinstance(answer, pb.PoWRequired):
            solution = await solve_pow(answer.challenge, answer.difficulty)
            proof = pb.Client(client_id=client_id, challenge=answer.challenge, pow_solution=solution)
            answer = await self._connection.ask("GenerateClient", [(1, proof)], kinds, self._timeout)
        if isinstance(answer, pb.PoWRequired):
            raise Refused("GenerateClient: the node asked for work again after a solution was sent")
        return _expect("GenerateClient", answer, pb.Client).client_id or client_id

    async def client_id(self, kept: str | None) -> str:
        """`kept` if the node still knows it, else a new client id, to be kept from now on.

        nodo forgets its clients when its database is made anew, and one that has nothing left after a while.
        """
        if kept is not None:
            try:
                await self.get_metrics(kept)
            except Refused as error:
                if not _is_invalid(error):
                    raise
            else:
                return kept
        return await self.generate_client()

    async def start_service(
        self,
        service_hash: bytes,
        *,
        client_id: str,
        environment: Mapping[str, bytes],
        timeout: float,
        resources: Resources | None = None,
    ) -> ServiceInstance:
        """Start one instance of the service with this 32-byte id. UnknownService when the node lacks it, NoCredit when we have too little.

        Quarantined, without asking, while the node shuts the client out; the wait to stay below its limit is not part
        of `timeout`.
        """
        profile = await self.profile()
        kind: type[old.Instance | pb.ServiceInstance]
        kind = old.Instance if profile.wrapped else pb.ServiceInstance
        call = self._order(profile, service_hash, client_id, environment, resources)
        answer = await self._gated("StartService", call, {1: kind}, timeout)
        if answer is None:
            raise UnknownService(f"StartService: the node does not hold service {service_hash.hex()}")
        return _instance(_expect("StartService", answer, kind))

    async def estimated_cost(
        self,
        service_hash: bytes,
        *,
        client_id: str,
        environment: Mapping[str, bytes] | None = None,
        resources: Resources | None = None,
    ) -> Estimate:
        """What the node would charge for an instance, in its unit (MU, or gas). UnknownService when it lacks the service."""
        call = self._order(await self.profile(), service_hash, client_id, environment or {}, resources)
        answer = await self._gated("GetServiceEstimatedCost", call, {1: pb.EstimatedCost}, self._timeout)
        if answer is None:
            raise UnknownService(f"GetServiceEstimatedCost: the node does not hold service {service_hash.hex()}")
        return _estimate(_expect("GetServiceEstimatedCost", answer, pb.EstimatedCost))

    async def declared_rate(self, client_id: str) -> Rate:
        """The rate at which the node says it takes ERG. Refused when it takes none, or declares no rate in this version."""
        profile = await self.profile()
        if profile.unit != "MU":
            raise Refused("GetPeerInfo: a node that counts in gas declares no rate; take it from its configuration")
        call: Call = [(1, pb.Client(client_id=client_id))]
        peer = _expect("GetPeerInfo", await self._gated("GetPeerInfo", call, {1: pb.Peer}, self._timeout), pb.Peer)
        for offer in peer.payment_contracts:
            rate, ledger = _integer("GetPeerInfo", offer.mu_per_unit, absent=0), offer.contract.ledger
            if "ergo" in ledger.tags and rate > 0:
                # Only the newest describes its ledger, and only it declares for the base unit of the description.
                return Rate(Fraction(rate), Per.NANOERG if profile.gated and ledger.formal else Per.ERG)
        raise Refused("GetPeerInfo: the node declares no rate for ERG")

    async def stop_service(self, token: str) -> int:
        """Ask to stop an instance; the refund in MU. 0 proves nothing: the node answers so to any token."""
        answer = await self._connection.ask("StopService", _token(token), {1: pb.Refund}, self._timeout)
        return _integer("StopService", _expect("StopService", answer, pb.Refund).amount, absent=0)

    async def get_metrics(self, token: str) -> int:
        """Balance, in the node's unit, of an instance (by its token) or of a client (by its id). Refused when there is none."""
        answer = await self._connection.ask("GetMetrics", _token(token), {1: pb.Metrics}, self._timeout)
        return _integer("GetMetrics", _expect("GetMetrics", answer, pb.Metrics).balance)

    async def stop_service_confirmed(
        self,
        token: str,
        *,
        timeout: float = 30.0,
        database: Path | None = None,
        still_there: StillThere | None = None,
    ) -> int:
        """Stop an instance and see that it is gone; the refund in MU. TooSlow when it is still there after `timeout`.

        With `database` (nodo's own file) its rows are the proof, which is also right for an instance that nodo runs on
        a peer. Without, and in a version whose database has no such rows, the node's refusal of the token as invalid is; with
        `still_there` the engine has to say so too.
        """
        deadline = time.monotonic() + timeout
        refund = 0
        while True:
            refund = await self._stopped(token) or refund
            if await self._is_gone(token, database) and not (still_there and await still_there(token)):
                return refund
            if time.monotonic() >= deadline:
                raise TooSlow(f"StopService: an instance still runs {timeout:g} s after it was told to stop")
            await asyncio.sleep(STOP_PAUSE)

    @asynccontextmanager
    async def service_tunnel(self, token: str, slot: int, *, timeout: float | None = None) -> AsyncIterator[Tunnel]:
        """Raw bytes to and from the port that the service declared as `slot`; `timeout` seconds bound the whole use.

        nodo gives up connecting to the port after ten seconds: Refused, to be tried again while the service starts.
        Only instances on the node itself are reached, not those that it runs on a peer.
        """
        profile = await self.profile()
        if not profile.tunnel:
            raise Refused(f"{tunnels.METHOD}: a nodo of version {profile.name} has no tunnel that carries bytes")

        async def why() -> GatewayError | None:
            return await tunnels.refusal(
                await self._connection.stream(tunnels.METHOD, tunnels.REFUSAL_WAIT), token, slot
            )

        stream = await self._connection.stream(tunnels.METHOD, timeout)
        tunnel = Tunnel(stream, token, timeout, why)
        try:
            # A call that ends here is told by the first read, like all else.
            with suppress(grpc.aio.AioRpcError):
                await stream.write(tunnels.opening(token, slot))
            yield tunnel
        except Unreachable:
            self._connection.broken()
            raise
        finally:
            await tunnel.aclose()

    async def _stopped(self, token: str) -> int:
        """As `stop_service`; where the node refuses because it has no such instance, 0."""
        try:
            return await self.stop_service(token)
        except Refused:
            if (await self.profile()).wrapped:
                return (
                    0  # of 2024: it fails on a token that it does not know; whether the instance is gone is seen next
                )
            raise

    async def _is_gone(self, token: str, database: Path | None) -> bool:
        profile = await self.profile()
        if database is not None and profile.rows:
            return not await asyncio.to_thread(holds_instance, database, token)
        try:
            await self.get_metrics(token)
        except Refused as error:
            # Any other refusal (a locked database, say) tells nothing about the instance.
            return _is_invalid(error) or (profile.wrapped and _is_bare_token(error))
        return False

    async def _gated(
        self, method: str, call: Call, kinds: Mapping[int, type[Message]], timeout: float
    ) -> Message | bytes | None:
        if (await self.profile()).gated:
            await self._gate.turn(method)
        try:
            return await self._connection.ask(method, call, kinds, timeout)
        except Quarantined as error:
            raise Quarantined(str(error), self._gate.shut()) from error

    def _order(
        self,
        profile: Profile,
        service_hash: bytes,
        client_id: str,
        environment: Mapping[str, bytes],
        resources: Resources | None,
    ) -> Call:
        """Client, configuration, hash: the node launches on seeing the hash, with the configuration it has by then.

        The configuration is never left out, and never empty: older versions fail without one, and nodo's library drops an empty message.
        """
        if len(service_hash) != HASH_BYTES:
            raise UsageError(f"service_hash has {len(service_hash)} bytes, the id of a service has {HASH_BYTES}")
        configuration = pb.Configuration()
        for key, value in (environment or {SEED: b""}).items():
            configuration.environment_variables.add(key=key, value=value)
        return [
            (1, pb.Client(client_id=client_id)),
            (3, _with_clause(configuration, resources or Resources()) if profile.wrapped else configuration),
            (4, pb.Metadata.HashTag.Hash(type=self._hash_type, value=service_hash)),
        ]


def _with_clause(configuration: pb.Configuration, resources: Resources) -> old.Configuration:
    """As the nodo of 2024 wants it: with one choice of resources at least."""
    sent = old.Configuration(config=configuration)
    clause = sent.resources.clause[1]
    clause.cost_weight = 1
    for asked in (clause.min_sysreq, clause.max_sysreq):
        for name in ("mem_limit", "disk_space"):
            if (value := getattr(resources, name)) is not None:
                setattr(asked, name, value)
    return sent


def _is_bare_token(error: Refused) -> bool:
    """Whether a refusal is nothing but the token, quoted: so the nodo of 2024 says that it does not know it."""
    return str(error) == "GetMetrics: '(token)'"


def _is_invalid(error: Refused) -> bool:
    """Whether a refusal of GetMetrics says that there is no such instance or client."""
    return "invalid token" in str(error).lower()


def _token(token: str) -> Call:
    return [(1, pb.TokenMessage(token=token))]


def _expect(method: str, answer: Message | bytes | None, kind: type[M]) -> M:
    if not isinstance(answer, kind):
        came = "no answer" if answer is None else type(answer).__name__
        raise BrokenAnswer(f"{method}: {came}, expected {kind.__name__}")
    return answer


def _integer(method: str, amount: pb.Amount, *, absent: int | None = None) -> int:
    if not amount.n and absent is not None:
        return absent
    try:
        return int(amount.n, 10)
    except ValueError:
        raise BrokenAnswer(f"{method}: amount {amount.n[:40]!r}, expected a decimal integer") from None


def _estimate(message: pb.EstimatedCost) -> Estimate:
    amounts = (message.cost, message.init_maintenance_cost, message.max_maintenance_cost)
    start, upkeep, most = (_integer("GetServiceEstimatedCost", amount, absent=0) for amount in amounts)
    if min(start, upkeep, most, message.maintenance_seconds_loop) < 0:
        raise BrokenAnswer("GetServiceEstimatedCost: a negative cost")
    return Estimate(start, upkeep, most, message.maintenance_seconds_loop)


def _instance(message: pb.ServiceInstance | old.Instance) -> ServiceInstance:
    if not message.token:
        raise BrokenAnswer("StartService: an instance without token")
    return ServiceInstance(message.token, {slot.internal_port: _endpoints(slot) for slot in message.instance.uri_slot})


def _endpoints(slot: pb.Instance.Uri_Slot) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(uri.ip, uri.port) for uri in slot.uri if uri.ip and 0 < uri.port < 1 << 16)
