"""The demo, played once in this process: who paid what to whom, to the nanoERG, and what both interpreters say of it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aihd.chain.appkit import Appkit
from aihd.core.task import State
from aihd.demo.play import MARK, WORTH, Ending, play
from aihd.demo.story import ERG
from aihd.demo.world import World, world
from aihd.devnet.blocks import Block
from aihd.devnet.views import TxView
from aihd.nodo.reputation import read_service_reputation
from aihd.protocol import guards
from aihd.protocol.constants import MAX_MINER_FEE, RATING_VALUE, RECEIPT_VALUE
from aihd.protocol.context import HEADERS
from aihd.protocol.trees import FEE_TREE

WORDS = "one two three\nfour\n"


@dataclass(frozen=True, slots=True)
class Played:
    """The demo after its world is gone."""

    stage: World
    ending: Ending
    told: list[str]
    folder: Path
    status: dict[str, Any]
    children: set[int]

    @property
    def winner(self) -> int:
        return ("node-a", "node-b").index(self.ending.node)

    def transactions(self) -> list[TxView]:
        """Those of the task's story, from the post on, without the collecting of fees."""
        posted = min(step.height for step in self.ending.steps)
        blocks = self.stage.devnet.chain.blocks[posted - 1 :]
        return [view for block in blocks for view in block.transactions if view.fee]

    def trees(self, view: TxView) -> set[bytes]:
        """Under which trees its inputs stood."""
        return {bytes(box.ergo_tree) for box in self.inputs(view)}

    def inputs(self, view: TxView) -> list[Any]:
        return [self.stage.devnet.chain.ledger.boxes[key].view.box for key in view.inputs]


def children() -> set[int]:
    """Processes that this one has started and that still run."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if int(parent) == os.getpid() and state != "Z":
            found.add(int(name.split()[0]))
    return found


async def enact(folder: Path) -> Played:
    before, told = children(), []
    source = folder / "input.txt"
    source.write_text(WORDS)
    async with world(folder, block_time=0.5, max_input=10_000) as stage:
        ending = await play(stage, source, "text-digest", folder / "output", lambda step: told.append(step.name))
        winner = stage.daemons[("node-a", "node-b").index(ending.node)]
        async with asyncio.timeout(30):
            while True:
                running = await status(winner.config)
                if State.PAID in running["tasks"]["states"]:
                    break
                await asyncio.sleep(0.2)
    return Played(stage, ending, told, folder, running, children() - before)


async def status(config: Path) -> dict[str, Any]:
    """What `aihd status --json` says."""
    done = await asyncio.to_thread(aihd, "status", "--json", "--config", str(config))
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def aihd(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "aihd", *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return asyncio.run(enact(tmp_path_factory.mktemp("demo")))


def test_demo__when__played__then__paid_rated_and_verified(played: Played) -> None:
    assert played.told[:3] == ["post", "claim", "RELEASED"]
    assert played.told[-2:] == ["PAID", "RATED"]
    assert played.told.count("commit") == played.told.count("reveal") == 2
    assert len(played.ending.findings) == 21
    assert [finding for finding in played.ending.findings if not finding.holds] == []
    digest = json.loads(played.ending.output.read_bytes())
    assert (digest["bytes"], digest["lines"], digest["words"]) == (len(WORDS), 2, 4)


def test_demo__when__ended__then__every_balance_is_exact_to_the_nano(played: Played) -> None:
    ending, stage = played.ending, played.stage
    story = played.transactions()
    client = [view.fee for view in story if stage.client.signer.tree in played.trees(view)]  # post, commit, reveal
    node = [view.fee for view in story if stage.client.signer.tree not in played.trees(view)]
    assert (len(client), len(node)) == (3, 5)
    treasury = guards.treasury_fee(WORTH)
    other = "node-b" if ending.node == "node-a" else "node-a"
    assert ending.changes(ERG) == {
        "client": -(WORTH + RECEIPT_VALUE + RATING_VALUE + sum(client)),
        ending.node: WORTH - treasury + RATING_VALUE - sum(node),  # the rating is the settler's, and it settled
        other: 0,
        "treasury": treasury,
    }
    assert treasury == WORTH // 100
    assert ending.fees == sum(client) + sum(node)
    assert ending.receipt_box == RECEIPT_VALUE
    assert ending.total(ERG) == 0
    assert ending.held == WORTH - treasury - MAX_MINER_FEE  # anybody may claim, so all of it waited for the mark
    assert ending.balanced


def test_demo__when__ended__then__nodo_has_the_reputation_of_the_service(played: Played) -> None:
    points = (MARK - 3) * guards.weight(WORTH)
    assert played.ending.reputation == (points, 1)
    service = played.stage.services["text-digest"].hex()
    assert read_service_reputation(played.stage.gateway.database, service) == (points, 1)


def test_demo__when__ended__then__both_daemons_left_with_0_and_nothing_runs(played: Played) -> None:
    assert [daemon.process.returncode for daemon in played.stage.daemons] == [0, 0]
    assert played.children == set()
    assert list((played.folder / "nodo" / "__cache__" / "microvm" / "runtime").iterdir()) == []
    for daemon in played.stage.daemons:
        assert json.loads(daemon.log.read_text().splitlines()[-1])["event"] == "stopped"


def test_demo__when__ended__then__no_secret_is_in_any_log_or_database(played: Played) -> None:
    secrets = [path.read_text().encode() for path in played.folder.glob("*/mnemonic")]
    assert len(secrets) == 4
    files = [path for path in played.folder.rglob("*") if path.is_file() and path.name != "mnemonic"]
    for path in files:
        content = path.read_bytes()
        assert not any(secret in content or b" ".join(secret.split()[:4]) in content for secret in secrets), path


def test_status__when__the_daemon_runs_and_is_well__then__healthy_with_a_paid_task(played: Played) -> None:
    assert played.status["verdict"] == "Healthy"
    assert played.status["service"]["running"] is True
    assert played.status["tasks"]["states"] == {"PAID": 1}
    assert played.status["wallet"]["score"] == 16


def test_status__when__the_daemon_is_down__then__its_folder_tells_and_the_exit_code_is_1(played: Played) -> None:
    config = str(played.stage.daemons[played.winner].config)
    done = aihd("status", "--json", "--config", config)
    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert document["service"]["running"] is False
    assert document["tasks"]["states"] == {"PAID": 1}
    quiet = aihd("status", "--quiet", "--config", config)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (1, "", "")
    shown = aihd("status", "--config", config)
    assert "1 PAID" in shown.stdout
    assert "not running" in shown.stdout


@pytest.mark.jvm
def test_demo__when__replayed__then__the_reference_interpreter_takes_every_transaction(played: Played) -> None:
    chain = played.stage.devnet.chain
    judged = 0
    with Appkit() as appkit:
        for block in chain.blocks[HEADERS:]:
            for view in block.transactions:
                if view.fee == 0:
                    continue  # the devnet collects fees by a transaction that knows its miner, which a real block names
                assert refusal(appkit, played, block, view) is None
                judged += 1
    assert judged >= 3 + 2 + 9  # faucet, bonds, and the task from post to settle


def refusal(appkit: Appkit, played: Played, block: Block, view: TxView) -> str | None:
    """Why the JVM does not take a transaction in its block."""
    chain = played.stage.devnet.chain
    newest_first = [b.header for b in reversed(chain.blocks[block.height - 1 - HEADERS : block.height - 1])]
    data_inputs = [chain.ledger.boxes[key].view.box for key in view.data_inputs]
    verdict = appkit.verify(
        view.tx, played.inputs(view), data_inputs, newest_first, block.header, dict(chain.parameters)
    )
    return None if verdict.ok else f"{view.tx_id}: {[i.error for i in verdict.inputs if not i.ok]}"


def test_demo__when__fees_are_collected__then__only_from_fee_boxes(played: Played) -> None:
    chain = played.stage.devnet.chain
    collecting = [view for block in chain.blocks[HEADERS:] for view in block.transactions if view.fee == 0]
    assert {tree for view in collecting for tree in played.trees(view)} == {FEE_TREE}
