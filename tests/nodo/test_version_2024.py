"""The nodo of 2024, held by bytes: what it answered to StartService, and what it has to be sent."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from grpc_tools import protoc

from aihd.devnet.gateway import PLENTY, EmbeddedGateway
from aihd.devnet.gateway_ages import AGES
from aihd.devnet.packing import install
from aihd.nodo.frames import Decoder, encode_all
from aihd.nodo.gateway import Endpoint, GatewayClient, Refused, Resources
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb import aihd_gateway_2024_pb2 as old
from aihd.nodo.pb.aihd_buffer_pb2 import Buffer
from aihd.nodo.profiles import V24

# StartService's answer of a nodo at 0c6b4403 that ran whole: its Docker build, container and address; the message without frames.
ANSWER = bytes.fromhex(
    "12220a0a120808903f1203746370121408903f120f0a093132372e302e302e3110f19a031a6e313135666234323631323363"
    "343537343866313263343765613266303530646123233137322e31372e302e35232334663835383733323064366135653231"
    "643966633465376238303738363265616636383437346238336336613165613739393138386465636134626635356461"
)
SERVICE = bytes(range(32))
CLIENT = "0123456789abcdef" * 2
# The same fields in nodo's own words (gateway.proto and celaut.proto at 0c6b4403), so that classes that are not ours read our bytes.
NODOS_OWN = """
syntax = "proto3"; package gateway;
message Sysresources { optional uint64 blkio_weight = 1; optional uint64 cpu_period = 2; optional uint64 cpu_quota = 3;
  optional uint64 mem_limit = 4; optional uint64 disk_space = 5; }
message CelautConfiguration { map<string, bytes> enviroment_variables = 1; repeated int32 spec_slot = 2; }
message CombinationResources {
  message Clause { int32 cost_weight = 1; optional Sysresources min_sysreq = 2; optional Sysresources max_sysreq = 3;
    optional int32 start_service_time = 4; }
  map<int32, Clause> clause = 1;
}
message GasAmount { string n = 1; }
message Configuration { CelautConfiguration config = 1; optional CombinationResources resources = 2;
  optional GasAmount initial_gas_amount = 3; }
"""


def nodos_own(folder: Path) -> type:
    """The class that nodo's own file gives, in a pool of its own."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    (folder / "own.proto").write_text(NODOS_OWN)
    out = folder / "own.bin"
    assert protoc.main(["protoc", f"-I{folder}", f"--descriptor_set_out={out}", "own.proto"]) == 0
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("gateway.Configuration"))


async def sent_by(client_call: str, folder: Path, resources: Resources | None) -> list[tuple[int, bytes]]:
    """(index, body) of every message of a call of ours to a gateway of 2024 that answers with the golden bytes."""
    sent: list[tuple[int, bytes]] = []

    async def handler(requests, context):  # type: ignore[no-untyped-def]
        async for data in requests:
            frame = Buffer.FromString(data)
            sent.append((frame.head.index, frame.chunk))
        yield Buffer(signal=True).SerializeToString()
        yield Buffer(chunk=ANSWER, head=Buffer.Head(index=1), separator=True).SerializeToString()
        await context.abort(
            grpc.StatusCode.UNKNOWN, "Exception iterating responses: exceptions must derive from BaseException"
        )

    server = grpc.aio.server()
    handlers = {"StartService": grpc.stream_stream_rpc_method_handler(handler)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("gateway.Gateway", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with GatewayClient(f"127.0.0.1:{port}", timeout=5, security="plaintext", profile=V24) as client:
        started = await client.start_service(
            SERVICE, client_id=CLIENT, environment={"A": b"b"}, timeout=5, resources=resources
        )
    await server.stop(None)
    assert started.slots == {8080: (Endpoint("127.0.0.1", 52593),)}
    assert started.token == "115fb426123c45748f12c47ea2f050da##172.17.0.5##" + (
        "4f8587320d6a5e21d9fc4e7b807862eaf68474b83c6a1ea799188deca4bf55da"
    )
    return sent


@pytest.mark.parametrize(
    ("resources", "mem_limit"), [(None, None), (Resources(), None), (Resources(256 << 20, 1 << 30), 256 << 20)]
)
@pytest.mark.asyncio
async def test_start_service__when__nodo_is_of_2024__then__golden_answer_is_read_and_a_clause_is_sent(
    tmp_path: Path, resources: Resources | None, mem_limit: int | None
) -> None:
    messages = await sent_by("StartService", tmp_path, resources)
    assert [index for index, _ in messages] == [1, 3, 4]
    read = nodos_own(tmp_path).FromString(messages[1][1])  # type: ignore[attr-defined]
    assert dict(read.config.enviroment_variables) == {"A": b"b"}
    (clause,) = read.resources.clause.values()
    assert clause.cost_weight == 1
    assert clause.HasField("min_sysreq") == clause.HasField("max_sysreq") == (mem_limit is not None)
    if mem_limit is not None:
        assert clause.min_sysreq.mem_limit == clause.max_sysreq.mem_limit == mem_limit
        assert clause.min_sysreq.disk_space == 1 << 30


def test_configuration__when__encoded__then__byte_for_byte_as_2024_wants_it() -> None:
    """config{1: map entry "A" -> "b"}, resources{1: 1 -> clause{1: weight 1, 2 and 3: mem_limit 4096}}."""
    from aihd.nodo.gateway import _with_clause

    configuration = pb.Configuration(environment_variables=[pb.BytesKeyValue(key="A", value=b"b")])
    clause = "0801" + "1203208020" + "1a03208020"
    entry = "0801" + "120c" + clause
    expected = "0a080a060a0141120162" + "1212" + "0a10" + entry
    assert _with_clause(configuration, Resources(mem_limit=4096)).SerializeToString().hex() == expected


def test_answer__when__read_by_the_classes_of_later_versions__then__api_is_bytes_that_nobody_parses() -> None:
    read = old.Instance.FromString(ANSWER)
    assert read.SerializeToString() == ANSWER
    assert read.instance.api.hex() == "12080" + "8903f1203746370" and isinstance(read.instance.api, bytes)


@pytest.mark.asyncio
async def test_gateway__when__of_2024_and_the_configuration_is_missing_or_has_no_clause__then__its_own_words(
    tmp_path: Path,
) -> None:
    from aihd.demo.world import SERVICES

    async with (
        EmbeddedGateway(tmp_path, profile=V24, credit=PLENTY) as gateway,
        GatewayClient(gateway.address) as client,
    ):
        service, me = install(SERVICES / "text_digest", tmp_path, of_2024=True), await client.generate_client()
        hashed = pb.Metadata.HashTag.Hash(type=client._hash_type, value=service)
        for given, words in (
            ([], "'NoneType' object has no attribute 'HasField'"),
            ([(3, old.Configuration(config=pb.Configuration(spec_slot=[1])))], "Any clause supported."),
        ):
            for method in ("StartService", "GetServiceEstimatedCost"):
                call = [(1, pb.Client(client_id=me)), *given, (4, hashed)]
                with pytest.raises(Refused, match=words):
                    await client._connection.ask(method, call, {1: old.Instance}, 5)
        estimate = await client.estimated_cost(service, client_id=me)
        assert estimate.start == AGES["V24"].deposit + AGES["V24"].build


def test_frames__when__a_call_of_2024_is_encoded__then__each_message_is_whole() -> None:
    decoder = Decoder({1: pb.Client, 3: old.Configuration})
    frames = encode_all(
        [(1, pb.Client(client_id=CLIENT)), (3, old.Configuration(config=pb.Configuration(spec_slot=[1])))]
    )
    assert len([message for frame in frames if (message := decoder.feed(frame)) is not None]) == 2
