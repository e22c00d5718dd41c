"""The client against the embedded gateway in each version of nodo, over plaintext and TLS, and with its faults."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path

import pytest

from aihd.devnet.gateway import PLENTY, EmbeddedGateway
from aihd.devnet.gateway_ages import AGES, AUGUST
from aihd.devnet.gateway_clients import Limits
from aihd.devnet.gateway_faults import FAULTS
from aihd.devnet.gateway_identity import Identity
from aihd.errors import UsageError
from aihd.nodo.database import holds_instance, instances_of
from aihd.nodo.gateway import (
    BrokenAnswer,
    GatewayClient,
    Quarantined,
    Refused,
    ServiceInstance,
    TooSlow,
    UnknownClient,
    UnknownService,
    Unreachable,
)
from aihd.nodo.identity import check_peer, fetch_certificate
from aihd.nodo.pricing import Estimate, Per, Rate
from aihd.nodo.profiles import NEWEST_FIRST, V24, VFEB, VJUL, VNEW, Profile
from aihd.nodo.transport import parse_address

ECHO = """
import os, socket
s = socket.create_server((os.environ["SLOT_HOST"], int(os.environ["SLOT_9000"])))
while True:
    c, _ = s.accept()
    c.sendall(os.environ.get("SAY", "").encode() + c.recv(100))
    c.close()
"""
DEPOSIT = AGES["VNEW"].deposit
PROFILES = pytest.mark.parametrize("profile", NEWEST_FIRST, ids=lambda profile: str(profile.name))
SECURE = pytest.mark.parametrize("profile", [VNEW, VJUL], ids=lambda profile: str(profile.name))


def service_folder(folder: Path) -> Path:
    made = folder / "made"
    made.mkdir()
    (made / "main.py").write_text(ECHO)
    (made / "service.toml").write_text('name="made"\nprose="p"\nentry="main.py"\nport=9000\nfiles=["main.py"]\n')
    return made


async def said(started: ServiceInstance, text: bytes) -> bytes:
    """What the instance answers, once it listens."""
    endpoint = started.slots[9000][0]
    for _ in range(200):
        try:
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
            writer.write(text)
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            if answer:
                return answer
        except OSError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError("the instance does not listen")


@asynccontextmanager
async def world(
    folder: Path, profile: Profile = VNEW, *faults: str, tls: bool = False, limits: Limits | None = None
) -> AsyncIterator[tuple[EmbeddedGateway, GatewayClient, bytes, str]]:
    """A gateway, a client of it that was told nothing about it, a service, and a client id."""
    async with (
        EmbeddedGateway(
            folder / "storage", profile=profile, tls=tls, faults=faults, limits=limits, credit=PLENTY
        ) as gateway,
        GatewayClient(gateway.address, timeout=10) as client,
    ):
        yield gateway, client, gateway.install(service_folder(folder)), await client.generate_client()


@PROFILES
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.asyncio
async def test_client__when__gateway_is_of_any_version__then__it_is_found_out_and_a_service_runs_and_is_stopped(
    tmp_path: Path, profile: Profile, tls: bool
) -> None:
    async with world(tmp_path, profile, tls=tls) as (gateway, client, service, me):
        assert await client.profile() == profile
        assert await client.peer_id() == (gateway.identity.peer_id if tls else None)
        age = AGES[profile.name]
        assert await client.get_metrics(me) == PLENTY
        assert await client.estimated_cost(service, client_id=me) == Estimate(
            age.build + age.deposit, age.upkeep, age.upkeep, 10
        )
        with pytest.raises(UnknownService, match="00" * 32):
            await client.start_service(bytes(32), client_id=me, environment={}, timeout=10)
        with pytest.raises(UnknownService, match="00" * 32):
            await client.estimated_cost(bytes(32), client_id=me)
        started = await client.start_service(service, client_id=me, environment={"SAY": b"you said "}, timeout=10)
        assert await said(started, b"hello") == b"you said hello"
        assert await client.get_metrics(started.token) == age.deposit
        assert await client.stop_service_confirmed(started.token) == age.deposit
        assert gateway.executor.pid(started.token) is None
        assert await client.get_metrics(me) == PLENTY - age.build - (0 if age.returns else age.deposit)
        assert (await client.estimated_cost(service, client_id=me)).start == age.deposit, "it is built"


@pytest.mark.parametrize("profile", [VNEW, VJUL, VFEB], ids=lambda profile: str(profile.name))
@pytest.mark.asyncio
async def test_stop_service_confirmed__when__version_has_the_rows__then__they_prove_the_stop(
    tmp_path: Path, profile: Profile
) -> None:
    async with world(tmp_path, profile) as (gateway, client, service, me):
        started = await client.start_service(service, client_id=me, environment={}, timeout=10)
        assert holds_instance(gateway.database, started.token)
        refund = await client.stop_service_confirmed(started.token, database=gateway.database)
        assert refund == AGES[profile.name].deposit
        assert not holds_instance(gateway.database, started.token)


@PROFILES
@pytest.mark.asyncio
async def test_declared_rate__when__asked__then__with_what_it_is_for_or_refused_by_a_node_that_counts_in_gas(
    tmp_path: Path, profile: Profile
) -> None:
    async with world(tmp_path, profile) as (_, client, _, me):
        if profile.unit != "MU":
            with pytest.raises(Refused, match="counts in gas"):
                await client.declared_rate(me)
            return
        rate = await client.declared_rate(me)
        assert rate.per_nanoerg == 1
        assert rate.per is (Per.NANOERG if profile is VNEW else Per.ERG)


@pytest.mark.asyncio
async def test_declared_rate__when__the_newest_gateway_has_no_description_of_its_ledger__then__for_a_whole_erg(
    tmp_path: Path,
) -> None:
    async with EmbeddedGateway(tmp_path, age=AUGUST) as gateway, GatewayClient(gateway.address) as client:
        rate = await client.declared_rate(await client.generate_client())
        assert rate == Rate(Fraction(10**9), Per.ERG)


@PROFILES
@pytest.mark.asyncio
async def test_service_tunnel__when__version_has_one__then__bytes_go_through_it_else_refused(
    tmp_path: Path, profile: Profile
) -> None:
    async with world(tmp_path, profile) as (_, client, service, me):
        started = await client.start_service(service, client_id=me, environment={}, timeout=10)
        assert await said(started, b"x") == b"x"
        if not profile.tunnel:
            with pytest.raises(Refused, match=f"version {profile.name} has no tunnel"):
                async with client.service_tunnel(started.token, 9000):
                    raise AssertionError("no tunnel should open")
            return
        async with client.service_tunnel(started.token, 9000) as tunnel:
            assert await tunnel.write(b"through")
            assert b"".join([chunk async for chunk in tunnel]) == b"through"


@pytest.mark.parametrize("profile", [VNEW, V24], ids=lambda profile: str(profile.name))
@pytest.mark.asyncio
async def test_start_service__when__client_id_was_never_minted__then__refused_in_the_version_s_words(
    tmp_path: Path, profile: Profile
) -> None:
    async with world(tmp_path, profile) as (_, client, service, _):
        with pytest.raises(UnknownClient if profile.gated else Refused, match=r"client_id|Can't launch this service"):
            await client.start_service(service, client_id="0" * 32, environment={}, timeout=10)
        with pytest.raises(UnknownClient, match=r"(?i)client.id"):
            await client.start_service(service, client_id="", environment={}, timeout=10)


@PROFILES
@pytest.mark.asyncio
async def test_client_id__when__node_knows_the_kept_one_or_has_forgotten_it__then__that_one_or_a_new_one(
    tmp_path: Path, profile: Profile
) -> None:
    async with world(tmp_path, profile) as (_, client, _, me):
        assert await client.client_id(me) == me
        fresh = await client.client_id("0" * 32)
        assert fresh not in (me, "0" * 32)
        assert await client.client_id(fresh) == fresh
        assert await client.client_id(None) not in (me, fresh)


# TLS.


@SECURE
@pytest.mark.asyncio
async def test_client__when__nodo_restarts_with_another_certificate__then__it_is_fetched_again_and_the_call_is_made(
    tmp_path: Path, profile: Profile
) -> None:
    gateway = EmbeddedGateway(tmp_path / "storage", profile=profile, tls=True)
    async with gateway:
        client = GatewayClient(gateway.address, timeout=10, peer_id=gateway.identity.peer_id)
        first = await fetch_certificate(gateway.host, gateway.port, 5)
    async with client:
        async with gateway:
            me = await client.generate_client()
        async with gateway:
            assert await fetch_certificate(gateway.host, gateway.port, 5) != first
            for attempt in range(3):  # the broken connection may show in one call before
                try:
                    assert await client.get_metrics(me) == 0
                    break
                except Unreachable:
                    assert attempt < 2


@pytest.mark.asyncio
async def test_client__when__another_node_answers_after_a_restart__then__refused_and_never_spoken_to(
    tmp_path: Path,
) -> None:
    async with EmbeddedGateway(tmp_path / "a", tls=True) as gateway, GatewayClient(gateway.address) as client:
        me = await client.generate_client()
        port = gateway.port
        await gateway.__aexit__(None, None, None)
        async with EmbeddedGateway(tmp_path / "b", tls=True, port=port) as other:
            with pytest.raises(Refused, match=f"is peer {other.identity.peer_id}, expected {gateway.identity.peer_id}"):
                for _ in range(3):
                    try:
                        await client.get_metrics(me)
                    except Unreachable:
                        continue
        async with EmbeddedGateway(tmp_path / "c", port=port):
            with pytest.raises(BrokenAnswer, match="does not speak TLS"):
                await client.get_metrics(me)


@pytest.mark.asyncio
async def test_client__when__peer_id_is_given_and_gateway_is_plaintext_or_another__then__never_spoken_to(
    tmp_path: Path,
) -> None:
    expected = Identity().peer_id
    async with EmbeddedGateway(tmp_path / "a") as plain, EmbeddedGateway(tmp_path / "b", tls=True) as other:
        async with GatewayClient(plain.address, peer_id=expected) as client:
            with pytest.raises(BrokenAnswer, match="does not speak TLS"):
                await client.generate_client()
        async with GatewayClient(other.address, peer_id=expected) as client:
            with pytest.raises(Refused, match=f"expected {expected}"):
                await client.generate_client()
        async with GatewayClient(plain.address, peer_id=expected, security="plaintext") as client:
            with pytest.raises(UsageError, match="only be checked over TLS"):
                await client.generate_client()


@pytest.mark.parametrize("scheme", ["ed25519", "secp256k1"])
@pytest.mark.parametrize("damage", ["", "none", "other", "case", "short", "garbage", "ascii"])
def test_check_peer__when__certificate_s_extension_is_damaged__then__broken_answer(scheme: str, damage: str) -> None:
    identity = Identity("ed25519" if scheme == "ed25519" else "secp256k1")
    signature = identity.sign("CELAUT" + "00" * 91)
    contents = {
        "": None,
        "none": "",
        "other": f"{identity.peer_id}:{signature}",
        "case": f"{identity.peer_id.upper()}:{signature}",
        "short": f"{identity.peer_id[:-2]}:{signature}",
        "garbage": "zz:zz",
        "ascii": "é:é",
    }
    made = identity.certificate(contents[damage])
    der = b64decode(b"".join(made.pem.splitlines()[1:-1]))
    if not damage:
        assert check_peer(der, identity.peer_id) == identity.peer_id
        return
    with pytest.raises(BrokenAnswer, match="not signed by the identity"):
        check_peer(der, identity.peer_id)


def test_check_peer__when__bytes_are_no_certificate_or_have_no_extension__then__broken_answer() -> None:
    with pytest.raises(BrokenAnswer, match="carries no identity"):
        check_peer(b"\x30\x00", None)


@pytest.mark.parametrize(("text", "address"), [("h:1", ("h", 1)), ("[::1]:65535", ("::1", 65535))])
def test_parse_address__when__host_and_port__then__both(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


# Faults.


@pytest.mark.asyncio
async def test_faults__when__instances_are_delegated__then__stopped_for_sure_and_no_tunnel_reaches_them(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, VNEW, "delegated-instances") as (gateway, client, service, me):
        started = await client.start_service(service, client_id=me, environment={}, timeout=10)
        assert await said(started, b"x") == b"x"
        assert holds_instance(gateway.database, started.token)
        async with client.service_tunnel(started.token, 9000) as tunnel:
            with pytest.raises(Refused, match="No local instance"):
                assert [chunk async for chunk in tunnel]
        assert await client.stop_service_confirmed(started.token, database=gateway.database) == DEPOSIT
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection(started.slots[9000][0].host, started.slots[9000][0].port)


@pytest.mark.asyncio
async def test_faults__when__start_is_slow__then__too_slow_and_an_instance_that_nobody_has_noted(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, VNEW, "slow-start") as (gateway, client, service, me):
        with pytest.raises(TooSlow, match=r"StartService: no answer within 0\.2 s"):
            await client.start_service(service, client_id=me, environment={}, timeout=0.2)
        while not (orphans := instances_of(gateway.database, me)):  # the node went on launching it
            await asyncio.sleep(0.05)
        assert await client.stop_service_confirmed(orphans[0], database=gateway.database) == DEPOSIT
        started = await client.start_service(service, client_id=me, environment={}, timeout=10)
        assert gateway.executor.pid(started.token)


@pytest.mark.asyncio
async def test_faults__when__instances_die__then__row_and_deposit_are_gone(tmp_path: Path) -> None:
    async with world(tmp_path, VNEW, "dying-instances") as (gateway, client, service, me):
        started = await client.start_service(service, client_id=me, environment={}, timeout=10)
        assert not holds_instance(gateway.database, started.token)
        assert await client.stop_service_confirmed(started.token, database=gateway.database) == 0
        assert await client.get_metrics(me) == PLENTY - AGES["VNEW"].build - DEPOSIT


@pytest.mark.asyncio
async def test_faults__when__refund_is_zero__then__only_the_row_tells_a_stop_from_a_lost_one(tmp_path: Path) -> None:
    async with world(tmp_path, VNEW, "zero-refunds") as (gateway, client, service, me):
        started = await client.start_service(service, client_id=me, environment={}, timeout=10)
        assert await client.stop_service_confirmed(started.token, database=gateway.database) == 0
        gateway.faults.switch("lost-stops", True)
        started = await client.start_service(service, client_id=me, environment={}, timeout=10)
        with pytest.raises(TooSlow, match="still runs"):
            await client.stop_service_confirmed(started.token, database=gateway.database, timeout=0.1)
        gateway.faults.switch("lost-stops", False)
        assert await client.stop_service_confirmed(started.token) == 0


@pytest.mark.asyncio
async def test_faults__when__client_is_quarantined__then__quarantined_and_stops_still_go_through(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (gateway, client, service, me):
        started = await client.start_service(service, client_id=me, environment={}, timeout=10)
        gateway.faults.switch("quarantine", True)
        with pytest.raises(Quarantined, match="temporarily quarantined"):
            await client.start_service(service, client_id=me, environment={}, timeout=10)
        with pytest.raises(Quarantined, match=r"for \d+ s more"):
            await client.declared_rate(me)
        assert await client.stop_service_confirmed(started.token) == DEPOSIT


@pytest.mark.asyncio
async def test_limits__when__another_program_uses_up_the_client_s_calls__then__quarantined(tmp_path: Path) -> None:
    limits = Limits(calls=3, window=60, quarantine=60)
    async with (
        world(tmp_path, limits=limits) as (gateway, client, service, me),
        GatewayClient(gateway.address) as other,
    ):
        for _ in range(3):
            await other.declared_rate(me)
        with pytest.raises(Quarantined):
            await client.estimated_cost(service, client_id=me)


@pytest.mark.parametrize("name", ["", "slow_start", "zero-refund"])
def test_faults__when__there_is_none_of_the_name__then__error_names_them_all(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"fault {name!r} is none of {', '.join(FAULTS)}"):
        EmbeddedGateway(tmp_path, faults=[name])
