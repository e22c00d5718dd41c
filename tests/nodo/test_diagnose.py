"""Each thing that can be wrong with a nodo installation, provoked, found, and told with its cure."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from aihd.devnet.gateway import PLENTY, EmbeddedGateway
from aihd.errors import ConfigError, DependencyError
from aihd.nodo.diagnose import Finding, diagnose
from aihd.nodo.discovery import Installation, discover
from aihd.nodo.gateway import GatewayClient
from aihd.nodo.hashing import ALGORITHMS
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.profiles import NEWEST_FIRST, VFEB, Profile
from aihd.nodo.reputation import write_reputation

NOBODY = 65534


WELCOME = "pricing: {A: 1}\nidentity: {A: 1}\nfree_tier: {CREDIT_MU_PER_NEW_CLIENT: 1000}\n"


def config(folder: Path, port: object, more: str = WELCOME) -> Installation:
    (folder / "config.yaml").write_text(
        f"main:\n  STORAGE: {folder / 'storage'}\nnetwork:\n  GATEWAY_PORT: {port}\n{more}"
    )
    return discover(folder)


@asynccontextmanager
async def nodo(
    folder: Path, *faults: str, tls: bool = False
) -> AsyncIterator[tuple[EmbeddedGateway, Installation, str]]:
    """A nodo in order: gateway, installation folder, and a client id that it minted."""
    async with EmbeddedGateway(folder / "storage", tls=tls, faults=faults, credit=PLENTY) as gateway:
        store(gateway.storage, b"service one")
        async with GatewayClient(gateway.address) as client:
            me = await client.generate_client()
        yield gateway, config(folder, gateway.port), me


def store(storage: Path, content: bytes, algorithm: str = "sha3_256") -> str:
    name = ALGORITHMS[algorithm](content).hex()
    (storage / "__registry__" / name).write_bytes(content)
    metadata = pb.Metadata()
    metadata.hashtag.hash.add(type=ALGORITHMS[algorithm](b""), value=bytes.fromhex(name))
    (storage / "__metadata__" / name).write_bytes(metadata.SerializeToString())
    return name


def wrong(findings: list[Finding]) -> dict[str, str]:
    return {finding.what: finding.sentence for finding in findings if not finding.ok}


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.asyncio
async def test_diagnose__when__all_is_well__then__every_finding_is_and_nothing_was_changed(
    tmp_path: Path, tls: bool
) -> None:
    async with nodo(tmp_path, tls=tls) as (gateway, installation, me):
        before = gateway.database.read_bytes()
        findings = await diagnose(installation, client_id=me)
        assert wrong(findings) == {}
        whats = [finding.what for finding in findings]
        assert whats == ["gateway", "version", "client", "database", "registry", "metadata", "hash", "clock"]
        assert gateway.database.read_bytes() == before
        assert ("TLS, as peer" in findings[0].sentence) == tls


@pytest.mark.asyncio
async def test_diagnose__when__nobody_listens__then__start_nodo_or_mend_the_address(tmp_path: Path) -> None:
    async with nodo(tmp_path) as (_, installation, me):
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{held.getsockname()[1]}"
            found = wrong(await diagnose(installation, gateway=address, client_id=me))
    assert list(found) == ["gateway"]
    assert "start nodo" in found["gateway"] and address in found["gateway"]


@pytest.mark.asyncio
async def test_diagnose__when__nodo_has_not_chosen_a_port_yet__then__it_has_not_served(tmp_path: Path) -> None:
    async with nodo(tmp_path):
        found = wrong(await diagnose(config(tmp_path, "auto")))
    assert "has not served yet" in found["gateway"]


@pytest.mark.asyncio
async def test_diagnose__when__something_else_listens__then__no_gateway_of_nodo(tmp_path: Path) -> None:
    async with nodo(tmp_path) as (_, installation, _):
        server = grpc.aio.server()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        found = wrong(await diagnose(installation, gateway=f"127.0.0.1:{port}"))
        await server.stop(None)
    assert "no gateway of nodo" in found["gateway"] and "another program listens" in found["gateway"]


@pytest.mark.asyncio
async def test_diagnose__when__another_node_is_expected__then__named_both(tmp_path: Path) -> None:
    async with nodo(tmp_path, tls=True) as (gateway, installation, _):
        found = wrong(await diagnose(installation, peer_id="00" * 32))
        assert gateway.identity.peer_id in found["gateway"]
    assert "set nodo.peer_id" in found["gateway"]


@pytest.mark.asyncio
async def test_diagnose__when__gateway_is_older_than_the_folder_looks__then__restart_it(tmp_path: Path) -> None:
    async with EmbeddedGateway(tmp_path / "storage", profile=VFEB) as gateway:
        found = wrong(await diagnose(config(tmp_path, gateway.port), client_id="x"))
    assert list(found) == ["version", "client"]
    assert "version VFEB answers, but" in found["version"] and "looks like VNEW; restart nodo" in found["version"]


@pytest.mark.parametrize("profile", NEWEST_FIRST, ids=lambda profile: str(profile.name))
@pytest.mark.asyncio
async def test_diagnose__when__version_is_any__then__its_own_database_is_in_order(
    tmp_path: Path, profile: Profile
) -> None:
    async with EmbeddedGateway(tmp_path / "storage", profile=profile) as gateway:
        installation = replace(config(tmp_path, gateway.port), version=profile.name)
        async with GatewayClient(gateway.address) as client:
            me = await client.generate_client()
        assert wrong(await diagnose(installation, client_id=me)) == {}
        assert list(wrong(await diagnose(installation, client_id="0" * 32))) == ["client"]


@pytest.mark.asyncio
async def test_diagnose__when__client_is_quarantined_or_forgotten__then__told_apart(tmp_path: Path) -> None:
    async with nodo(tmp_path, "quarantine") as (gateway, installation, me):
        found = wrong(await diagnose(installation, client_id=me))
        assert "calling too often; wait 300 s" in found["client"]
        gateway.faults.switch("quarantine", False)
        found = wrong(await diagnose(installation, client_id="0" * 32))
        assert "does not know our client id" in found["client"] and "restart aihd" in found["client"]


@pytest.mark.asyncio
async def test_diagnose__when__database_is_missing_or_none_of_nodo_s__then__told_apart(tmp_path: Path) -> None:
    async with nodo(tmp_path) as (_, installation, _):
        gone = replace(installation, database=tmp_path / "gone.sqlite")
        assert "does not exist" in wrong(await diagnose(gone))["database"]
        other = replace(installation, database=tmp_path / "other.sqlite")
        with closing(sqlite3.connect(other.database)) as connection:
            connection.execute("CREATE TABLE a (b)")
        assert "none of nodo's tables" in wrong(await diagnose(other))["database"]
        garbage = replace(installation, database=tmp_path / "config.yaml")
        assert "not a database" in wrong(await diagnose(garbage))["database"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter: pytest's own may not be."""
    folder = Path(tempfile.mkdtemp(prefix="nodo-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, if the tests have them: to root no file is closed."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.mark.asyncio
async def test_diagnose__when__user_has_no_rights_on_the_files__then__told_to_join_nodo_s_group(
    open_folder: Path,
) -> None:
    async with nodo(open_folder) as (gateway, installation, _):
        for folder, file, text in (
            (
                0o777,
                0o444,
                r"database .* may not be written; .*chmod g\+rwX \S+/database.sqlite && usermod -aG \S+ aihd",
            ),
            (0o777, 0o000, "unable to open database file"),
            (
                0o555,
                0o666,
                r"folder \S+/storage may not be written, and SQLite puts its journal there; .*chmod g\+rwX \S+/storage ",
            ),
            (0o555, 0o444, "folder .* may not be written"),
        ):
            gateway.storage.chmod(folder)
            gateway.database.chmod(file)
            with as_nobody():
                found = wrong(await diagnose(installation))
                with pytest.raises(DependencyError) as caught:
                    write_reputation(gateway.database, "service", "0" * 64, 1, key="k")
            assert re.search(text, found.pop("database")) and not found
            assert re.search(text.split(";")[0], str(caught.value)), "whoever writes says the same"
        (gateway.storage / "__registry__").chmod(0o000)
        with as_nobody():
            assert "run aihd in nodo's group" in wrong(await diagnose(installation))["registry"]
        (gateway.storage / "__registry__").chmod(0o755)
        gateway.storage.chmod(0o755)
        (open_folder / "config.yaml").chmod(0o000)
        with as_nobody(), pytest.raises(ConfigError, match="run in nodo's group"):
            discover(open_folder)


@pytest.mark.asyncio
async def test_diagnose__when__metadata_is_missing_or_damaged__then__services_are_counted_and_named(
    tmp_path: Path,
) -> None:
    async with nodo(tmp_path) as (gateway, installation, _):
        names = sorted(store(gateway.storage, b"service %d" % number) for number in range(5))
        for name in names[1:]:
            (gateway.storage / "__metadata__" / name).unlink()
        (gateway.storage / "__metadata__" / names[0]).write_bytes(b"\xff\xff")
        sentence = wrong(await diagnose(installation))["metadata"]
    assert sentence.startswith(
        f"5 services have no metadata that names them, nodo will not start them: {names[0][:12]}…"
    )
    assert sentence.endswith("and others; import or pack them again")


@pytest.mark.asyncio
async def test_diagnose__when__services_are_named_by_another_algorithm_or_damaged__then__told_apart(
    tmp_path: Path,
) -> None:
    async with nodo(tmp_path) as (gateway, installation, _):
        name = store(gateway.storage, b"two")
        (gateway.storage / "__registry__" / name).write_bytes(b"damaged")
        assert f"does not have their id: {name[:12]}…" in wrong(await diagnose(installation))["hash"]
        store(gateway.storage, b"three", "blake2b")
        sentence = wrong(await diagnose(installation))["hash"]
        assert "1 services are named by blake2b" in sentence and "set hashing.HASH to blake2b" in sentence


@pytest.mark.asyncio
async def test_diagnose__when__registry_is_not_there__then__set_storage(tmp_path: Path) -> None:
    async with nodo(tmp_path) as (_, installation, _):
        found = wrong(await diagnose(replace(installation, registry=tmp_path / "gone")))
    assert "cannot be read: No such file" in found["registry"] and "set nodo.storage" in found["registry"]


@pytest.mark.asyncio
async def test_diagnose__when__clock_is_behind_nodo_s_files__then__set_it(tmp_path: Path) -> None:
    async with nodo(tmp_path) as (gateway, installation, _):
        os.utime(gateway.database, (time.time() + 3600,) * 2)
        assert "set the clock" in wrong(await diagnose(installation))["clock"]
