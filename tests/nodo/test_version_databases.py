"""Instances in the database of each version of nodo, as a gateway of that version leaves them there."""

from __future__ import annotations

from pathlib import Path

import pytest

from aihd.demo.world import SERVICES
from aihd.devnet.gateway import EmbeddedGateway
from aihd.nodo.database import holds_instance, instances_of
from aihd.nodo.gateway import GatewayClient
from aihd.nodo.profiles import NEWEST_FIRST, Profile


@pytest.mark.parametrize("profile", NEWEST_FIRST, ids=lambda profile: str(profile.name))
@pytest.mark.parametrize("fault", [(), ("delegated-instances",)], ids=["here", "on-a-peer"])
@pytest.mark.asyncio
async def test_instances__when__of_any_version__then__found_by_client_and_token_until_they_are_stopped(
    tmp_path: Path, profile: Profile, fault: tuple[str, ...]
) -> None:
    async with (
        EmbeddedGateway(tmp_path / "nodo", profile=profile, faults=fault) as gateway,
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
