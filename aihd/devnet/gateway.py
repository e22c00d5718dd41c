"""A gateway that behaves as nodo's does, in this process: real gRPC, nodo's frames, errors and database, services as
processes.

It plays each version of nodo (`profile`), with faults by name. What it takes over from nodo: paths and messages of the
version, the gate for unknown clients and its limit, work for client ids, TLS with an identity, the lone signal frame before
an answer, an answerless call for an unknown service, a Refund of 0 for an unknown token, and the texts of its errors. What
it leaves out: peers, payments, prices (an instance costs its deposit, and gives it back).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc
from google.protobuf.message import Message

from aihd.devnet import gateway_tunnel
from aihd.devnet.executor import Executor, Instances
from aihd.devnet.gateway_clients import GATE, CallLimit, Limits, NodeError, Work, is_client_id, too_fast
from aihd.devnet.gateway_faults import GatewayFaults
from aihd.devnet.gateway_identity import Identity
from aihd.devnet.gateway_rows import Rows, Started
from aihd.devnet.nodo_schema import DATABASE, NodoVersion, create_database
from aihd.devnet.packing import install
from aihd.errors import AihdError
from aihd.nodo.frames import RAW, decode, encode
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb.aihd_buffer_pb2 import Buffer
from aihd.nodo.profiles import VJUL, VNEW, Profile
from aihd.nodo.registry import METADATA, REGISTRY

CLIENT_CREDIT_MU = 10**12
INSTANCE_DEPOSIT_MU = 1_000_000
MU_PER_NANOERG = 1
SLOW_START: Final = 1.0  # seconds, for the fault of this name
UPKEEP_EVERY: Final = 10  # seconds
Frames = AsyncIterator[bytes]
Method = Callable[[Frames], AsyncIterator[Buffer]]
MakeExecutor = Callable[[Path, str, Callable[[str], None]], Instances]
M = TypeVar("M", bound=Message)


class EmbeddedGateway:
    """`async with EmbeddedGateway(storage) as gateway: ...`; `storage` is laid out as nodo's main.STORAGE.

    `profile`: the version it plays. `pow_difficulty`: hex zeros that a client id costs. `tls`: with a certificate of this
    gateway's own identity, a new one at every start; else plaintext. `faults`: those that are on from the start.
    `executor` makes what runs the instances, of a folder, a host and what to call when one dies.
    When it leaves, no instance and no file of one remains.
    """

    def __init__(
        self,
        storage: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        pow_difficulty: int = 0,
        profile: Profile = VNEW,
        tls: bool = False,
        faults: Iterable[str] = (),
        limits: Limits | None = None,
        executor: MakeExecutor = Executor,
    ) -> None:
        self.storage = storage
        self.database = storage / DATABASE
        self.host = host
        self.port = port
        self.profile = profile
        self.faults = GatewayFaults(faults)
        self.identity = Identity("secp256k1" if profile == VJUL else "ed25519")
        self._tls = tls
        self._work = Work(pow_difficulty)
        self._limit = CallLimit(limits or Limits())
        self._rows = Rows(self.database)
        self._server: grpc.aio.Server | None = None
        self._executor = executor(storage / "__cache__" / "microvm" / "runtime", host, self._rows.forget)
        self._launches: set[asyncio.Task[Started]] = set()

    @property
    def address(self) -> str:
        """host:port, as a client takes it."""
        return f"{self.host}:{self.port}"

    @property
    def executor(self) -> Instances:
        """The running instances."""
        return self._executor

    def install(self, folder: Path) -> bytes:
        """Pack a service folder and hold it from now on; its 32-byte id."""
        return install(folder, self.storage)

    async def __aenter__(self) -> Self:
        for part in (REGISTRY, METADATA, "__block__"):
            (self.storage / part).mkdir(parents=True, exist_ok=True)
        create_database(self.storage, NodoVersion(self.profile.name))
        self._rows.clear()  # instances of an earlier run are gone
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_handlers(self.profile.service, self._methods()),))
        self.port = self._listen(self._server)
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None
        await asyncio.gather(*self._launches, return_exceptions=True)
        await self._executor.close()
        self._rows.clear()

    def _launched(self, launch: asyncio.Task[Started]) -> None:
        self._launches.discard(launch)
        if not launch.cancelled():
            launch.exception()  # told to the client, if it still waits

    def _listen(self, server: grpc.aio.Server) -> int:
        if not self._tls:
            return int(server.add_insecure_port(self.address))
        made = self.identity.certificate()
        return int(server.add_secure_port(self.address, grpc.ssl_server_credentials([(made.key, made.pem)])))

    def _methods(self) -> dict[str, Method]:
        """What this version implements of what aihd may call or looks for."""
        methods: dict[str, Method] = {
            "GenerateClient": self._generate_client,
            "StartService": self._start_service,
            "StopService": self._stop_service,
            "GetMetrics": self._get_metrics,
            "GetServiceEstimatedCost": self._estimate,
        }
        if self.profile.unit == "MU":
            methods |= {"GetPeerInfo": self._get_peer_info, "ModifyDeposit": self._modify_deposit}
        else:
            methods["ModifyGasDeposit"] = self._modify_deposit
        if self.profile.tunnel:
            methods["ServiceTunnel"] = self._service_tunnel
        if self.profile.gated:
            methods["AssociateClient"] = self._associate_client
        return methods

    # The methods: frames in, frames out. An exception becomes nodo's kind of status.

    async def _generate_client(self, frames: Frames) -> AsyncIterator[Buffer]:
        if self.profile.mints:
            client = pb.Client(client_id=str(uuid.uuid4()))
        else:
            client = await _first(frames, pb.Client) or pb.Client(client_id=secrets.token_hex(16))
            if not is_client_id(client.client_id):
                raise NodeError("client_id must be 32 lowercase hex digits of a uuid4.")
            if (demand := self._work.demand(client)) is not None:
                for frame in encode(demand, 2):
                    yield frame
                return
        self._rows.add_client(client.client_id, CLIENT_CREDIT_MU)
        for frame in encode(pb.Client(client_id=client.client_id), 1):
            yield frame

    async def _start_service(self, frames: Frames) -> AsyncIterator[Buffer]:
        client, configuration, service_hash = await self._order(frames)
        self._pass(client)
        service = self._held(service_hash) if service_hash else None
        if service is None:
            return  # nodo ends the call and looks for the service among its peers
        yield Buffer(signal=True)
        # As nodo's thread does, a launch goes on to its end when the client no longer waits for it.
        launch = asyncio.create_task(self._launch(service_hash.hex(), service, configuration, client))
        self._launches.add(launch)
        launch.add_done_callback(self._launched)
        started = await asyncio.shield(launch)
        answer: Message = pb.ServiceInstance(token=started.token, instance=started.instance)
        if self.profile.wrapped:
            answer = pb.WrappedInstance(token=started.token, instance=started.instance)
        for frame in encode(answer, 1):
            yield frame

    async def _stop_service(self, frames: Frames) -> AsyncIterator[Buffer]:
        token = await self._token(frames)
        refund = 0 if self.faults.active("lost-stops") else await self._stop(token)
        if self.faults.active("zero-refunds"):
            refund = 0
        for frame in encode(pb.Refund(amount=pb.Amount(n=str(refund))), 1):
            yield frame

    async def _get_metrics(self, frames: Frames) -> AsyncIterator[Buffer]:
        token = await self._token(frames)
        balance = self._rows.balance(token)
        if balance is None:
            raise NodeError(f"Invalid token, it should be a client_id or a token with ##.  token: {token}")
        for frame in encode(pb.Metrics(balance=pb.Amount(n=balance)), 1):
            yield frame

    async def _estimate(self, frames: Frames) -> AsyncIterator[Buffer]:
        client, configuration, service_hash = await self._order(frames)
        self._pass(client)
        if not service_hash or self._held(service_hash) is None:
            return
        cost = pb.Amount(n=str(_deposit(configuration)))
        for frame in encode(pb.EstimatedCost(cost=cost, maintenance_seconds_loop=UPKEEP_EVERY), 1):
            yield frame

    async def _get_peer_info(self, frames: Frames) -> AsyncIterator[Buffer]:
        client = await _first(frames, pb.Client)
        self._pass(client.client_id if client else "")
        peer = pb.Peer(public_key=self.identity.peer_id)
        rate = peer.payment_contracts.add(mu_per_unit=pb.Amount(n=str(MU_PER_NANOERG)))
        rate.contract.ledger.tags.append("ergo")
        for frame in encode(peer, 1):
            yield frame

    async def _modify_deposit(self, frames: Frames) -> AsyncIterator[Buffer]:
        message = await _first(frames, pb.ModifyDepositInput)
        if message is None:
            raise NodeError(
                "Was imposible stop the service. No input was sent."
            )  # nodo's words, copied from StopService
        moved = self._rows.move(message.service_token, int(message.difference.n))
        for frame in encode(pb.ModifyDepositOutput(success=moved is None, message=moved or ""), 1):
            yield frame

    async def _associate_client(self, frames: Frames) -> AsyncIterator[Buffer]:
        client = await _first(frames, pb.Client)
        self._pass(client.client_id if client else "")
        for frame in encode(pb.AssociateClientOutput(bound=False, reason="This node has no peers."), 1):
            yield frame

    async def _service_tunnel(self, frames: Frames) -> AsyncIterator[Buffer]:
        async with aclosing(decode(frames, {1: pb.TokenMessage})) as messages:
            reader, writer = await gateway_tunnel.connect(await anext(messages, None), self._rows.instance)
            async with aclosing(gateway_tunnel.relay(messages, reader, writer)) as chunks:
                async for chunk in chunks:
                    for frame in encode(chunk, RAW):
                        yield frame

    # What they are made of.

    def _pass(self, client: str) -> None:
        """nodo's gate; the versions without one notice an unknown client when it has to pay."""
        if not self.profile.gated:
            if not client:
                raise NodeError("Client id not provided.")
            return
        if not is_client_id(client) or not self._rows.has_client(client):
            raise NodeError(GATE.format(client_id=client))
        if self.faults.active("quarantine"):
            raise NodeError(too_fast(client))
        self._limit.count(client)

    async def _order(self, frames: Frames) -> tuple[str, pb.Configuration, bytes]:
        """(client id, configuration, service hash): read until there is enough to launch, as nodo does."""
        client, configuration, service_hash = "", pb.Configuration(), b""
        kinds: dict[int, type[Message]] = {
            1: pb.Client, 2: pb.RecursionGuard, 4: pb.Metadata.HashTag.Hash, 5: pb.Metadata, 6: pb.Service,
            3: pb.WrappedConfiguration if self.profile.wrapped else pb.Configuration,
        }  # fmt: skip
        async with aclosing(decode(frames, kinds)) as messages:
            async for message in messages:
                match message:
                    case pb.Client():
                        client = message.client_id
                    case pb.Configuration():
                        configuration = message
                    case pb.WrappedConfiguration():
                        configuration = message.config
                    case pb.Metadata.HashTag.Hash():
                        service_hash = message.value
                if client and service_hash:
                    break
        return client, configuration, service_hash

    async def _token(self, frames: Frames) -> str:
        message = await _first(frames, pb.TokenMessage)
        if message is None or not message.token:
            raise NodeError("Invalid token: none was sent.")
        return message.token

    async def _launch(
        self, service_id: str, service: pb.Service, configuration: pb.Configuration, client: str
    ) -> Started:
        resources = service.container.resources.at_init
        if self.faults.active("slow-start"):
            await asyncio.sleep(SLOW_START)
        if not resources.HasField("disk_space"):
            raise NodeError("Disk space is not specified in the system requirements range.")
        deposit = _deposit(configuration)
        self._rows.spend(client, deposit, service_id)
        running = secrets.token_hex(32)
        token = hashlib.sha256(running.encode()).hexdigest() if self.faults.active("delegated-instances") else running
        environment = {item.key: os.fsdecode(item.value) for item in configuration.environment_variables}
        try:
            ports = await self._executor.start(running, service, environment)
        except AihdError as error:
            self._rows.spend(client, -deposit, service_id)
            raise NodeError(f"Unable to launch service {service_id}. Attempt details: {error}") from error
        instance = pb.Instance(api=service.api)
        for internal, port in ports.items():
            instance.uri_slot.add(internal_port=internal).uri.add(ip=self.host, port=port)
        started = Started(
            token, running, client, deposit, service_id, self.host, resources, environment, instance
        )  # fmt: skip
        self._rows.remember(started)
        if self.faults.active("dying-instances"):
            await self._executor.stop(running)
            self._rows.forget(running)
        return started

    async def _stop(self, token: str) -> int:
        """End an instance and give its balance to its father; 0 when there is none."""
        ended = self._rows.remove(token)
        if ended is None:
            return 0
        await self._executor.stop(ended.running)
        self._rows.spend(ended.father, -ended.balance, token)
        return ended.balance

    def _held(self, service_hash: bytes) -> pb.Service | None:
        service_id = service_hash.hex()
        content = self.storage / REGISTRY / service_id
        if not content.is_file():
            return None
        if not (self.storage / METADATA / service_id).is_file():
            raise NodeError(f"No metadata for the service {service_id}")
        return pb.Service.FromString(content.read_bytes())


def _deposit(configuration: pb.Configuration) -> int:
    return int(configuration.initial_mu.n) if configuration.HasField("initial_mu") else INSTANCE_DEPOSIT_MU


async def _first(frames: Frames, kind: type[M]) -> M | None:
    async with aclosing(decode(frames, {1: kind})) as messages:
        async for message in messages:
            if isinstance(message, kind):
                return message
    return None


def _handlers(service: str, methods: Mapping[str, Method]) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        service,
        {
            name: grpc.stream_stream_rpc_method_handler(
                _with_status(method),
                response_serializer=Buffer.SerializeToString,
            )
            for name, method in methods.items()
        },
    )


def _with_status(method: Method) -> Callable[[Frames, grpc.aio.ServicerContext], AsyncIterator[Buffer]]:
    """The method with the status that gRPC for threads, which nodo uses, makes of an exception in a handler."""

    async def handler(frames: Frames, context: grpc.aio.ServicerContext) -> AsyncIterator[Buffer]:
        try:
            async for frame in method(frames):
                yield frame
        except gateway_tunnel.TunnelError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except (NodeError, AihdError, sqlite3.Error, ValueError) as error:
            await context.abort(grpc.StatusCode.UNKNOWN, f"Exception iterating responses: {error}")

    return handler
