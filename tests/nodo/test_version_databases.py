"""Instances in the database of each version of nodo, as a gateway of that version leaves them there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aihd.demo.world import SERVICES
from aihd.devnet.gateway import PLENTY, EmbeddedGateway
from aihd.devnet.gateway_ages import AGES
from aihd.errors import DependencyError
from aihd.nodo.database import holds_instance, instances_of
from aihd.nodo.gateway import GatewayClient, TooSlow
from aihd.nodo.profiles import NEWEST_FIRST, V24, Profile

WITH_ROWS = [profile for profile in NEWEST_FIRST if profile.rows]


@pytest.mark.parametrize("profile", WITH_ROWS, ids=lambda profile: str(profile.name))
@pytest.mark.parametrize("fault", [(), ("delegated-instances",)], ids=["here", "on-a-peer"])
@pytest.mark.asyncio
async def test_instances__when__of_any_version__then__found_by_client_and_token_until_they_are_stopped(
    tmp_path: Path, profile: Profile, fault: tuple[str, ...]
) -> None:
    async with (
        EmbeddedGateway(tmp_path / "nodo", profile=profile, faults=fault, credit=PLENTY) as gateway,
        GatewayClient(gateway.address, timeout=20) as client,
    ):
        service, database = gateway.install(SERVICES / "text_digest"), gateway.database
        mine, others = await client.generate_client(), await client.generate_client()
        assert instances_of(database, mine) == ()
        token, other = [
            (await client.start_service(service, client_id=who, environment={}, timeout=20)).token
            for who in (mine, others)
        ]
        assert (instances_of(database, mine), instances_of(database, others)) == ((token,), (other,))
        assert holds_instance(database, token)
        assert not holds_instance(database, "00" * 32)
        await client.stop_service_confirmed(token, database=database)
        assert not holds_instance(database, token)
        assert (instances_of(database, mine), instances_of(database, others)) == ((), (other,))


@pytest.mark.asyncio
async def test_instances__when__of_2024__then__no_rows_tell_and_the_engine_has_a_say_in_a_stop(tmp_path: Path) -> None:
    async with (
        EmbeddedGateway(tmp_path / "nodo", profile=V24, credit=PLENTY) as gateway,
        GatewayClient(gateway.address, timeout=20) as client,
    ):
        service, database, me = (
            gateway.install(SERVICES / "text_digest"),
            gateway.database,
            await client.generate_client(),
        )
        token = (await client.start_service(service, client_id=me, environment={}, timeout=20)).token
        assert instances_of(database, me) == ()
        with pytest.raises(DependencyError, match="no table of instances"):
            holds_instance(database, token)
        asked: list[str] = []

        async def there(asked_for: str) -> bool:
            asked.append(asked_for)
            return len(asked) == 1  # Docker takes a moment

        assert await client.stop_service_confirmed(token, database=database, still_there=there) == AGES["V24"].deposit
        assert asked == [token, token]
        assert await client.stop_service_confirmed(token, database=database) == 0, "a repeated stop is one of nothing"

        async def stays(asked_for: str) -> bool:
            return True

        with pytest.raises(TooSlow, match="still runs"):
            await client.stop_service_confirmed(token, database=database, still_there=stays, timeout=0.1)


def test_instances__when__tables_are_those_of_2025__then__found_in_them(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite"
    with closing(sqlite3.connect(path)) as rows:
        rows.executescript(
            "CREATE TABLE internal_services (id TEXT, father_id TEXT); INSERT INTO internal_services VALUES ('a', 'me');"
            "CREATE TABLE external_services (token TEXT, token_hash TEXT, client_id TEXT);"
            "INSERT INTO external_services VALUES ('theirs', 'b', 'me');"
        )
    assert instances_of(path, "me") == ("a", "b")
    assert all(holds_instance(path, token) for token in ("a", "b", "theirs")) and not holds_instance(path, "c")
