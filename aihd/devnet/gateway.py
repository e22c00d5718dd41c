"""A gateway that behaves as nodo's does, in this process: real gRPC, nodo's frames, errors and database, services as
processes.

It plays each version of nodo (`profile`), with faults by name. What it takes over from nodo: paths and messages of the
version, the gate for unknown clients and its limit, work for client ids, TLS with an identity, clients without credit, what a start costs
(gateway_ages.py), metadata that names its service, ports that Docker accepts for, the lone signal frame before an answer, an answerless
call for an unknown service, a Refund of 0 for an unknown token, and the texts of its errors. What it leaves out: peers, and that an
instance is charged while it runs.
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

from aihd.devnet import gateway_money, gateway_tunnel
from aihd.devnet.executor import Executor, Instances
from aihd.devnet.gateway_2024 import Memory
from aihd.devnet.gateway_ages import AGES, Age
from aihd.devnet.gateway_clients import GATE, CallLimit, Limits, NodeError, Work, is_client_id, too_fast
from aihd.devnet.gateway_faults import GatewayFaults
from aihd.devnet.gateway_identity import Identity
from aihd.devnet.gateway_orders import Order, check_order, read_order, stored_service
from aihd.devnet.gateway_proxy import PortProxy
from aihd.devnet.gateway_rows import Rows, Started
from aihd.devnet.nodo_schema import DATABASE, create_database
from aihd.devnet.packing import install
from aihd.errors import AihdError
from aihd.nodo.frames import RAW, decode, encode
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb import aihd_gateway_2024_pb2 as old
from aihd.nodo.pb.aihd_buffer_pb2 import Buffer
from aihd.nodo.profiles import VJUL, VNEW, Profile
from aihd.nodo.registry import METADATA, REGISTRY

PLENTY: Final = 10**15
"""Credit for more runs than any test makes, in the unit of any version."""
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
    `executor` makes what runs the instances, of a folder, a host and what to call when one dies. `credit`: what a new client has, in the
    node's unit; nothing, as at a nodo that nobody has configured. `age`: what it charges and declares, that of its version if not given.
    `payments`: decides of a payment (amount, deposit token, the bytes of its contract) whether it was made.
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
        credit: int = 0,
        age: Age | None = None,
        payments: gateway_money.Validator = gateway_money.refuse,
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
        self._age = age or AGES[profile.name]
        self._credit = credit
        self._payments = payments
        self._built: set[str] = set()  # services whose build is paid for
        self._rows: Rows | Memory = Memory(self.database) if profile.wrapped else Rows(self.database)
        self._server: grpc.aio.Server | None = None
        self._executor = executor(storage / "__cache__" / "microvm" / "runtime", host, self._died)
        self._proxy = PortProxy(host)
        self._launches: set[asyncio.Task[Started]] = set()
        self._pruning: set[asyncio.Task[None]] = set()

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
        return install(folder, self.storage, of_2024=self.profile.wrapped)

    def credit(self, client: str, amount: int) -> None:
        """What `nodo credit_client` does: give a client an amount in the node's unit."""
        self._rows.spend(client, -amount, "")

    async def __aenter__(self) -> Self:
        for part in (REGISTRY, METADATA, "__block__"):
            (self.storage / part).mkdir(parents=True, exist_ok=True)
        create_database(self.storage, self._age.schema)
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
        for pruning in self._pruning:
            pruning.cancel()
        await asyncio.gather(*self._launches, *self._pruning, return_exceptions=True)
        await self._executor.close()
        await self._proxy.close()
        self._rows.clear()

    def _died(self, running: str) -> None:
        """An instance ended by itself. A container stays until nodo looks after its containers the next time."""
        self._proxy.withdraw(running)
        if not self._age.docker or isinstance(self._executor, Executor):
            self._rows.forget(running)
            return
        pruning = asyncio.create_task(self._prune(running), name=f"prune {running[:8]}")
        self._pruning.add(pruning)
        pruning.add_done_callback(self._pruning.discard)

    async def _prune(self, running: str) -> None:
        await asyncio.sleep(UPKEEP_EVERY)
        self._rows.forget(running)
        await self._executor.stop(running)

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
            "Payable": self._payable,
        }
        if not self.profile.wrapped:
            methods["GenerateDepositToken"] = self._deposit_token
        if self.profile.unit == "MU":
            methods |= {"GetPeerInfo": self._get_peer_info, "ModifyDeposit": self._modify_deposit}
        elif not self.profile.wrapped:
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
        self._rows.add_client(client.client_id, self._credit)
        for frame in encode(pb.Client(client_id=client.client_id), 1):
            yield frame

    async def _start_service(self, frames: Frames) -> AsyncIterator[Buffer]:
        order = await read_order(frames, self.profile)
        self._pass(order.client)
        service = stored_service(self.storage, order.service_hash, self.profile) if order.service_hash else None
        if service is None:
            return  # nodo ends the call and looks for the service among its peers
        yield Buffer(signal=True)
        check_order(order, self.profile, estimate=False)
        # As nodo's thread does, a launch goes on to its end when the client no longer waits for it.
        launch = asyncio.create_task(self._launch(order, service))
        self._launches.add(launch)
        launch.add_done_callback(self._launched)
        started = await asyncio.shield(launch)
        answer: Message = pb.ServiceInstance(token=started.token, instance=started.instance)
        if self.profile.wrapped:
            answer = old.Instance(token=started.token, instance=started.instance)
        for frame in encode(answer, 1):
            yield frame
        self._break_off("exceptions must derive from BaseException")

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
        order = await read_order(frames, self.profile)
        self._pass(order.client)
        if not order.service_hash or stored_service(self.storage, order.service_hash, self.profile) is None:
            return
        check_order(order, self.profile, estimate=True)
        upkeep, cost = pb.Amount(n=str(self._age.upkeep)), pb.Amount(n=str(self._price(order)))
        estimate = pb.EstimatedCost(
            cost=cost, init_maintenance_cost=upkeep, max_maintenance_cost=upkeep, maintenance_seconds_loop=UPKEEP_EVERY
        )
        for frame in encode(estimate, 1):
            yield frame
        self._break_off("generator raised StopIteration")

    async def _get_peer_info(self, frames: Frames) -> AsyncIterator[Buffer]:
        client = await _first(frames, pb.Client)
        self._pass(client.client_id if client else "")
        peer = pb.Peer(public_key=self.identity.peer_id)
        if self._age.rate is not None:
            rate = peer.payment_contracts.add(mu_per_unit=pb.Amount(n=str(self._age.rate)))
            rate.contract.ledger.CopyFrom(pb.Contract.Ledger(tags=["ergo"], formal=self._age.formal))
        for frame in encode(peer, 1):
            yield frame

    async def _deposit_token(self, frames: Frames) -> AsyncIterator[Buffer]:
        client = await _first(frames, pb.Client)
        self._pass(client.client_id if client else "")
        token = gateway_money.new_token(self._opened_rows(), client.client_id if client else "")
        for frame in encode(pb.TokenMessage(token=token), 1):
            yield frame

    async def _payable(self, frames: Frames) -> AsyncIterator[Buffer]:
        payment, client = await gateway_money.read_payment(frames, self.profile)
        if self.profile.gated:
            self._pass(client)
        if not self.profile.wrapped and gateway_money.settle(self._opened_rows(), payment, self._payments):
            for frame in encode(b"", 1):
                yield frame
            return
        raise NodeError("Error: payment not valid.")

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

    async def _token(self, frames: Frames) -> str:
        message = await _first(frames, pb.TokenMessage)
        if message is None or not message.token:
            raise NodeError("Invalid token: none was sent.")
        return message.token

    def _price(self, order: Order) -> int:
        """What a start of the ordered service costs now."""
        deposit = self._age.deposit if order.initial is None else order.initial
        return deposit + (0 if order.service_hash.hex() in self._built else self._age.build)

    def _break_off(self, text: str) -> None:
        """In 2024 a call that has answered ends with an error all the same."""
        if self.profile.wrapped:
            raise NodeError(text)

    def _opened_rows(self) -> Rows:
        if isinstance(self._rows, Memory):
            raise NodeError("This version keeps no deposit tokens.")
        return self._rows

    async def _launch(self, order: Order, service: pb.Service) -> Started:
        service_id, resources = order.service_hash.hex(), service.container.resources.at_init
        if self.faults.active("slow-start"):
            await asyncio.sleep(SLOW_START)
        if not resources.HasField("disk_space"):
            raise NodeError("Disk space is not specified in the system requirements range.")
        price = self._price(order)
        self._rows.spend(order.client, price, service_id)
        running = secrets.token_hex(32)
        given = order.configuration.environment_variables if order.configuration is not None else ()
        environment = {item.key: os.fsdecode(item.value) for item in given}
        try:
            ports = await self._executor.start(running, service, environment)
            if self.faults.active("early-ports") or (self._age.docker and isinstance(self._executor, Executor)):
                ports = await self._proxy.publish(running, ports)
        except AihdError as error:
            self._rows.spend(order.client, -price, service_id)
            raise NodeError(f"Unable to launch service {service_id}. Attempt details: {error}") from error
        self._built.add(service_id)
        instance = pb.Instance(api=service.api.SerializeToString())
        for internal, port in ports.items():
            instance.uri_slot.add(internal_port=internal).uri.add(ip=self.host, port=port)
        deposit = self._age.deposit if order.initial is None else order.initial
        token = self._token_of(running, order.client)
        started = Started(
            token, running, order.client, deposit, service_id, self.host, resources, environment, instance
        )  # fmt: skip
        self._rows.remember(started)
        if self.faults.active("dying-instances"):
            await self._executor.stop(running)
            self._died(running)
        return started

    def _token_of(self, running: str, father: str) -> str:
        """What the client is given to name an instance by."""
        if self.profile.wrapped:
            return f"{father}##{self.host}##{running}"
        return hashlib.sha256(running.encode()).hexdigest() if self.faults.active("delegated-instances") else running

    async def _stop(self, token: str) -> int:
        """End an instance and tell its balance, which goes to its father in most versions; 0 when there is none."""
        ended = self._rows.remove(token)
        if ended is None:
            return 0
        self._proxy.withdraw(ended.running)
        await self._executor.stop(ended.running)
        if self._age.returns:
            self._rows.spend(ended.father, -ended.balance, token)
        return ended.balance


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
