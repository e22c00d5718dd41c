"""`aihd init` and `aihd check`: what a node's owner begins with, each at least once as a command in a process of its own."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from aiohttp import web
from test_cli import Place, Said, aihd, place
from test_verbs import at, inside, journal, within

from aihd.config import load_settings
from aihd.store.journal import Journal

__all__ = ["journal", "place"]  # the folder of a daemon, as the other tests of commands make it

# ---------------------------------------------------------------- init


def answers(tmp_path: Path, **other: object) -> list[object]:
    given = {
        "--config": tmp_path / "new.toml",
        "--network": "testnet",
        "--node-url": "http://127.0.0.1:9052",
        "--deployment": tmp_path / "deployment.json",
        "--mnemonic-file": tmp_path / "key",
        "--data-dir": tmp_path / "data",
        "--endpoint": "https://node.example.org",
    } | {f"--{name}": value for name, value in other.items()}
    return [part for pair in given.items() for part in pair]


def test_init__when__answered__then__a_commented_configuration_and_a_key_that_nobody_else_reads(tmp_path: Path) -> None:
    said = aihd("init", *answers(tmp_path))
    assert (said.code, said.err) == (0, "")
    settings = load_settings(tmp_path / "new.toml", {}, {})
    assert (settings.chain.network, settings.chain.node_urls) == ("testnet", ("http://127.0.0.1:9052",))
    assert settings.wallet.mnemonic_file == tmp_path / "key"
    assert (settings.bond.endpoint, settings.data_dir) == ("https://node.example.org", tmp_path / "data")
    assert "# How often to look for something new." in (tmp_path / "new.toml").read_text()
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    address = within("wallet", "address", "--config", tmp_path / "new.toml").out.strip()
    assert f"address {address}" in said.out
    words = [word for word in (tmp_path / "key").read_text().split() if len(word) > 5]
    assert not [word for word in words if f" {word} " in said.out]


def test_init__when__files_are_there__then__nothing_is_overwritten(tmp_path: Path) -> None:
    assert within("init", *answers(tmp_path)).code == 0
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    again = within("init", *answers(tmp_path))
    assert (again.code, "is there already and stays as it is" in again.line) == (64, True)
    second = within("init", *answers(tmp_path, config=tmp_path / "second.toml"))
    assert (second.code, "was there and is used" in second.out) == (0, True)
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize(
    ("name", "value", "code", "says"),
    [("network", "moon", 64, "--network 'moon'"), ("endpoint", "nonsense", 78, "bond.endpoint")],
)
def test_init__when__an_answer_is_wrong__then__no_file_is_left(
    tmp_path: Path, name: str, value: str, code: int, says: str
) -> None:
    said = within("init", *answers(tmp_path, **{name: value}))
    assert said.code == code
    assert says in said.err and "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- check


def lines(said: Said) -> dict[str, str]:
    """What was looked at, and the line that says how it is."""
    return {line.split(": ")[0][6:]: line for line in said.out.splitlines() if line.startswith(("ok ", "wrong"))}


def test_check__when__the_chain_is_down_and_nothing_is_offered__then__1_and_each_with_its_remedy(place: Place) -> None:
    said = at(place, "check")
    assert (said.code, said.err) == (1, "")
    shown = lines(said)
    assert {what for what, line in shown.items() if line.startswith("ok")} == {
        "configuration",
        "data folder",
        "database",
        "wallet",
        "deployment",
        "nodo clock",
    }
    assert shown["services"] == "wrong services: none is offered, so every task is declined"
    wrong = [line for line in shown.values() if line.startswith("wrong")]
    assert said.out.count("mend: ") == len(wrong), "each with its remedy"
    named = {what.split(" http")[0] for what, line in shown.items() if line.startswith("wrong")}
    assert named == {"services", "sources", "node", "explorer", "nodo gateway", "nodo database", "nodo registry"}
    assert not place.data.exists()


def test_check__when__files_are_wrong__then__named(place: Place, journal: Journal) -> None:
    place.data.chmod(0o755)
    (place.folder / "mnemonic").chmod(0o644)
    (place.folder / "deployment.json").unlink()
    shown = lines(inside(place, "check"))
    assert "journal" not in shown  # without --deep
    assert "has mode 0755, open to others" in shown["data folder"]
    assert "chmod 600" in shown["wallet"]
    assert "cannot be read" in shown["deployment"]
    assert shown["database"].startswith("ok    database: whole, 1 tasks open, aihd is not running")


def test_check__when__deep__then__the_journal_is_held_against_its_tasks(place: Place, journal: Journal) -> None:
    assert (
        lines(inside(place, "check", "--deep"))["journal"]
        == "ok    journal: its events make the tasks that the table has"
    )
    journal._db.execute("UPDATE tasks SET payment = 7")
    said = inside(place, "check", "--deep")
    assert "payment is 7 in the table" in lines(said)["journal"]
    assert said.code == 1


@pytest.mark.asyncio
async def test_check__when__the_node_has_the_key_it_was_shipped_with__then__named(place: Place) -> None:
    async def status(request: web.Request) -> web.Response:
        known = request.headers.get("api_key") == "hello"
        return web.json_response({"isInitialized": True} if known else {}, status=200 if known else 403)

    app = web.Application()
    app.router.add_get("/wallet/status", status)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        text = place.config.read_text().splitlines()
        place.write(
            "\n".join(f'node_urls = ["http://127.0.0.1:{port}"]' if "node_urls" in line else line for line in text)
        )
        said = await asyncio.to_thread(inside, place, "check")
    finally:
        await runner.cleanup()
    assert f"wrong node http://127.0.0.1:{port}: its API key is 'hello', as shipped" in said.out
    assert "apiKeyHash" in said.out
