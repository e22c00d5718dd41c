"""A gateway that behaves as nodo's does, in this process: real gRPC, nodo's frames, errors and database, services as
processes.

What it takes over from nodo: the gate for unknown clients, work for client ids, the lone signal frame before an answer, an
answerless call for an unknown service, a Refund of 0 for an unknown token, and the texts of its errors. What it leaves
out: peers, payments, prices (an instance costs its deposit, and gives it back), rate limits.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message

from aihd.devnet.executor import Executor
from aihd.devnet.nodo_schema import DATABASE, create_database
from aihd.devnet.packing import install
from aihd.errors import AihdError
from aihd.nodo.frames import decode, encode
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb.aihd_buffer_pb2 import Buffer
from aihd.nodo.registry import METADATA, REGISTRY

CLIENT_CREDIT_MU = 10**12
INSTANCE_DEPOSIT_MU = 1_000_000
GATE = "This RPC requires a client_id minted by GenerateClient first."
Frames = AsyncIterator[bytes]
Method = Callable[[Frames], AsyncIterator[Buffer]]
M = TypeVar("M", bound=Message)


class NodeError(Exception):
    """What nodo raises in a handler, with its text."""


class EmbeddedGateway:
    """`async with EmbeddedGateway(storage) as gateway: ...`; `storage` is laid out as nodo's main.STORAGE.

    `pow_difficulty`: hex zeros that a client id costs. When it leaves, no instance and no file of one remains.
    """

    def __init__(self, storage: Path, *, host: str = "127.0.0.1", port: int = 0, pow_difficulty: int = 0) -> None:
        self.storage = storage
        self.database = storage / DATABASE
        self.host = host
        self.port = port
        self._difficulty = pow_difficulty
        self._secret = secrets.token_bytes(32)
        self._server: grpc.aio.Server | None = None
        self._executor = Executor(storage / "__cache__" / "microvm" / "runtime", host, self._forget)

    @property
    def address(self) -> str:
        """host:port, as a client takes it."""
        return f"{self.host}:{self.port}"

    @property
    def executor(self) -> Executor:
        """The running instances."""
        return self._executor

    def install(self, folder: Path) -> bytes:
        """Pack a service folder and hold it from now on; its 32-byte id."""
        return install(folder, self.storage)

    async def __aenter__(self) -> Self:
        for part in (REGISTRY, METADATA, "__block__"):
            (self.storage / part).mkdir(parents=True, exist_ok=True)
        create_database(self.storage)
        with self._rows() as rows:  # instances of an earlier run are gone
            rows.execute("DELETE FROM local_instances")
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_handlers(self._methods()),))
        self.port = self._server.add_insecure_port(f"{self.host}:{self.port}")
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None
        await self._executor.close()
        with self._rows() as rows:
            rows.execute("DELETE FROM local_instances")

    def _methods(self) -> dict[str, Method]:
        return {
            "GenerateClient": self._generate_client,
            "StartService": self._start_service,
            "StopService": self._stop_service,
            "GetMetrics": self._get_metrics,
        }

    # The methods: frames in, frames out. An exception becomes nodo's kind of status.

    async def _generate_client(self, frames: Frames) -> AsyncIterator[Buffer]:
        client = await _first(frames, pb.Client) or pb.Client(client_id=secrets.token_hex(16))
        if not _is_client_id(client.client_id):
            raise NodeError("client_id must be 32 lowercase hex digits of a uuid4.")
        if self._difficulty and not self._solved(client):
            challenge = self._challenge(client.client_id, secrets.token_hex(8))
            for frame in encode(pb.PoWRequired(challenge=challenge, difficulty=self._difficulty), 2):
                yield frame
            return
        with self._rows() as rows:
            rows.execute("INSERT OR IGNORE INTO clients VALUES (?, ?, NULL, 0)", (client.client_id, CLIENT_CREDIT_MU))
        for frame in encode(pb.Client(client_id=client.client_id), 1):
            yield frame

    async def _start_service(self, frames: Frames) -> AsyncIterator[Buffer]:
        client, configuration, service_hash = await self._order(frames)
        if not self._client_exists(client):
            raise NodeError(GATE)
        service = self._held(service_hash) if service_hash else None
        if service is None:
            return  # nodo ends the call and looks for the service among its peers
        yield Buffer(signal=True)
        instance = await self._launch(service_hash.hex(), service, configuration, client)
        for frame in encode(instance, 1):
            yield frame

    async def _stop_service(self, frames: Frames) -> AsyncIterator[Buffer]:
        token = await self._token(frames)
        refund = self._credit_back(token)
        await self._executor.stop(token)
        for frame in encode(pb.Refund(amount=pb.Amount(n=str(refund))), 1):
            yield frame

    async def _get_metrics(self, frames: Frames) -> AsyncIterator[Buffer]:
        token = await self._token(frames)
        with self._rows() as rows:
            row = rows.execute(
                "SELECT balance_mu FROM clients WHERE id = :token"
                " UNION ALL SELECT balance_mu FROM local_instances WHERE id = :token",
                {"token": token},
            ).fetchone()
        if row is None:
            raise NodeError(f"Invalid token, it should be a client_id or a token with ##.  token: {token}")
        for frame in encode(pb.Metrics(balance=pb.Amount(n=row[0])), 1):
            yield frame

    # What they are made of.

    async def _order(self, frames: Frames) -> tuple[str, pb.Configuration, bytes]:
        """(client id, configuration, service hash): read until there is enough to launch, as nodo does."""
        client, configuration, service_hash = "", pb.Configuration(), b""
        kinds: dict[int, type[Message]] = {
            1: pb.Client, 2: pb.RecursionGuard, 3: pb.Configuration, 4: pb.Metadata.HashTag.Hash, 5: pb.Metadata,
            6: pb.Service,
        }  # fmt: skip
        async with aclosing(decode(frames, kinds)) as messages:
            async for message in messages:
                match message:
                    case pb.Client():
                        client = message.client_id
                    case pb.Configuration():
                        configuration = message
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
    ) -> pb.ServiceInstance:
        if not service.container.resources.at_init.HasField("disk_space"):
            raise NodeError("Disk space is not specified in the system requirements range.")
        deposit = int(configuration.initial_mu.n) if configuration.HasField("initial_mu") else INSTANCE_DEPOSIT_MU
        self._spend(client, deposit, service_id)
        token = secrets.token_hex(32)
        environment = {item.key: os.fsdecode(item.value) for item in configuration.environment_variables}
        try:
            ports = await self._executor.start(token, service, environment)
        except AihdError as error:
            self._spend(client, -deposit, service_id)
            raise NodeError(f"Unable to launch service {service_id}. Attempt details: {error}") from error
        instance = pb.Instance(api=service.api)
        for internal, port in ports.items():
            instance.uri_slot.add(internal_port=internal).uri.add(ip=self.host, port=port)
        self._remember(token, client, deposit, service_id, service, environment, instance)
        return pb.ServiceInstance(token=token, instance=instance)

    def _held(self, service_hash: bytes) -> pb.Service | None:
        service_id = service_hash.hex()
        content = self.storage / REGISTRY / service_id
        if not content.is_file():
            return None
        if not (self.storage / METADATA / service_id).is_file():
            raise NodeError(f"No metadata for the service {service_id}")
        return pb.Service.FromString(content.read_bytes())

    def _challenge(self, client_id: str, nonce: str) -> str:
        text = f"{client_id}:{nonce}:{self._difficulty}"
        return f"{text}:{hmac.digest(self._secret, text.encode(), 'sha256').hex()}"

    def _solved(self, client: pb.Client) -> bool:
        parts = client.challenge.split(":")
        if len(parts) != 4 or client.challenge != self._challenge(client.client_id, parts[1]):
            return False
        work = hashlib.blake2b((client.challenge + client.pow_solution).encode()).hexdigest()
        return work.endswith("0" * self._difficulty)

    # Rows. A connection per use, as nodo's other writers have it.

    @contextmanager
    def _rows(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.database, timeout=5, isolation_level=None)) as connection:
            yield connection

    def _client_exists(self, client: str) -> bool:
        with self._rows() as rows:
            return rows.execute("SELECT 1 FROM clients WHERE id = ?", (client,)).fetchone() is not None

    def _spend(self, client: str, amount: int, service_id: str) -> None:
        with self._rows() as rows:
            spent = rows.execute(
                "UPDATE clients SET balance_mu = CAST(CAST(balance_mu AS INTEGER) - :amount AS TEXT)"
                " WHERE id = :client AND CAST(balance_mu AS INTEGER) >= :amount",
                {"client": client, "amount": amount},
            )
            if spent.rowcount != 1:
                raise NodeError(f"Launch service error spending gas for {service_id}")

    def _remember(
        self,
        token: str,
        client: str,
        deposit: int,
        service_id: str,
        service: pb.Service,
        environment: Mapping[str, str],
        instance: pb.Instance,
    ) -> None:
        resources = service.container.resources.at_init
        row = {
            "id": token, "name": token[:12], "ip": self.host, "father_id": client, "balance_mu": str(deposit),
            "mem_limit": resources.mem_limit, "disk_space": resources.disk_space, "service_id": service_id,
            "serialized_instance": instance.SerializeToString(), "virtualizer": "process",
            "envs": json.dumps(dict(environment)), "arch": "python3",
        }  # fmt: skip
        with self._rows() as rows:
            rows.execute(
                f"INSERT INTO local_instances ({', '.join(row)}, launched_at)"  # noqa: S608 - names from above
                f" VALUES ({', '.join(':' + name for name in row)}, CURRENT_TIMESTAMP)",
                row,
            )

    def _credit_back(self, token: str) -> int:
        """Delete the instance's row and give its balance to its father; 0 when there is no such row."""
        with self._rows() as rows:
            gone = rows.execute(
                "DELETE FROM local_instances WHERE id = ? RETURNING father_id, CAST(balance_mu AS INTEGER)", (token,)
            ).fetchall()
            for father, balance in gone:
                self._spend(father, -balance, token)
        return sum(balance for _, balance in gone)

    def _forget(self, token: str) -> None:
        """An instance ended by itself: nodo counts it as lost and gives nothing back."""
        with self._rows() as rows:
            rows.execute("DELETE FROM local_instances WHERE id = ?", (token,))


async def _first(frames: Frames, kind: type[M]) -> M | None:
    async with aclosing(decode(frames, {1: kind})) as messages:
        async for message in messages:
            if isinstance(message, kind):
                return message
    return None


def _is_client_id(text: str) -> bool:
    return len(text) == 32 and set(text) <= set("0123456789abcdef")


def _handlers(methods: Mapping[str, Method]) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        "celaut.Gateway",
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
        except (NodeError, AihdError, sqlite3.Error, ValueError) as error:
            await context.abort(grpc.StatusCode.UNKNOWN, f"Exception iterating responses: {error}")

    return handler
