"""What nodo asks for before it starts anything, and what hinders it: found by the check, each with one sentence and one command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_diagnose import config, wrong

from aihd.demo.world import SERVICES
from aihd.devnet.gateway import PLENTY, EmbeddedGateway
from aihd.nodo.diagnose import diagnose
from aihd.nodo.gateway import GatewayClient
from aihd.nodo.profiles import NEWEST_FIRST, V24, VNEW, Profile
from aihd.nodo.resources import Resources

ANY = Resources()


@pytest.mark.asyncio
@pytest.mark.parametrize("profile", NEWEST_FIRST, ids=lambda profile: str(profile.name))
async def test_diagnose__when__nodo_does_not_trust_our_client_id__then__named_with_its_command_until_it_does(
    tmp_path: Path, profile: Profile
) -> None:
    async with EmbeddedGateway(tmp_path / "storage", profile=profile) as gateway:
        service = gateway.install(SERVICES / "text_digest")
        installation = replace(config(tmp_path, gateway.port), version=profile.name)
        async with GatewayClient(gateway.address) as client:
            me = await client.generate_client()
        offered = {service: ANY}
        sentence = wrong(await diagnose(installation, client_id=me, services=offered))["credit"]
        assert {"gas": "set ALLOW_GAS_DEBT to true", "MU": f"`nodo credit_client {me} "}[profile.unit] in sentence
        assert str(profile.unit) in sentence
        gateway.credit(me, PLENTY)
        assert "credit" not in wrong(await diagnose(installation, client_id=me, services=offered))


@pytest.mark.asyncio
async def test_diagnose__when__new_clients_get_nothing_and_there_is_no_id_yet__then__said_before_the_first_start(
    tmp_path: Path,
) -> None:
    async with EmbeddedGateway(tmp_path / "storage") as gateway:
        stingy = config(
            tmp_path, gateway.port, "pricing: {A: 1}\nidentity: {A: 1}\nfree_tier: {CREDIT_MU_PER_NEW_CLIENT: 0}\n"
        )
        found = wrong(await diagnose(stingy))
        assert "nodo gives a new client id 0 MU" in found["credit"]
        assert "nodo credit_client" in found["credit"]
        assert wrong(await diagnose(config(tmp_path, gateway.port))) == {}


@pytest.mark.asyncio
async def test_diagnose__when__nodo_s_price_is_not_known__then__told_what_to_set(tmp_path: Path) -> None:
    async with EmbeddedGateway(tmp_path / "storage", profile=V24) as gateway:
        bare = replace(config(tmp_path, gateway.port), version=V24.name, rate=None)
        async with GatewayClient(gateway.address) as client:
            me = await client.generate_client()
        found = wrong(await diagnose(bare, client_id=me, priced=True))
        assert "so nothing is claimed; set nodo.units_per_erg" in found["price"]
        assert "price" not in wrong(await diagnose(bare, client_id=me, priced=False))


@pytest.mark.parametrize(
    ("line", "is_wrong"),
    [("{site}", True), ("import site; site.addsitedir('{site}')", False), ("{whole}", False), ("/nowhere", False)],
)
@pytest.mark.asyncio
async def test_diagnose__when__nodo_s_path_file_names_an_environment_for_editing__then__the_line_that_works(
    tmp_path: Path, line: str, is_wrong: bool
) -> None:
    editing, whole = tmp_path / "editing", tmp_path / "whole"
    (editing / "aihd-1.dist-info").mkdir(parents=True)
    (whole / "aihd" / "nodo").mkdir(parents=True)
    (whole / "aihd-1.dist-info").mkdir()
    theirs = tmp_path / "venv" / "lib" / "python3.11" / "site-packages"
    theirs.mkdir(parents=True)
    (theirs / "aihd.pth").write_text(line.format(site=editing, whole=whole) + "\n")
    async with EmbeddedGateway(tmp_path / "storage", profile=VNEW) as gateway:
        found = wrong(await diagnose(config(tmp_path, gateway.port)))
    assert ("payment process" in found) == is_wrong
    if is_wrong:
        assert (
            f"""echo "import site; site.addsitedir('{editing}')" > {theirs / "aihd.pth"}""" in found["payment process"]
        )
