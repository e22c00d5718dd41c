"""The dashboard page and what watches the metrics: served whole, fetched from nobody else, and about metrics that exist."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import made
import pytest
from prometheus_client import CollectorRegistry

from aihd.core.task import FINAL, Limits, Stage, State, Where
from aihd.core.verdict import Facts, WalletFacts
from aihd.core.views import status
from aihd.ops.metrics import StatusCollector
from aihd.ops.web import PAGE, Health, ops_app, serve

CONFIG = Path(__file__).parents[2] / "config"
TASK = made.task(where=Where.CLAIMED, claim_height=40, exec_deadline=100)
HELD = made.task(id=b"\7" * 32, where=Where.RELEASED, holdback_bps=5_000, commit_deadline=90, reveal_deadline=120)
WELL = Facts(
    running=True,
    market="m",
    height=50,
    wallet=WalletFacts(address="9f", confirmed=1, reserved=2, bond=3, committed=4, score=5),
    open_tasks=(TASK, HELD),
    states={State.PAID: 1},
    declines={"price": (2, "too little")},
    troubles={"claim": "no answer"},
    limits=Limits(),
    newest=(TASK, HELD),
)


def document() -> dict[str, Any]:
    """A status in which everything that can be there is there."""
    return status(replace(WELL, paused="now", restored="then", waiting={"busy": (1, "4 tasks are at work")}))


@pytest.mark.asyncio
async def test_dashboard__when__asked__then__one_page_that_may_ask_nobody_else() -> None:
    health = Health(True, "well")
    app = ops_app(healthy=lambda: health, ready=lambda: health, status=document, registry=CollectorRegistry())
    async with serve(app, "127.0.0.1", 0) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        async with session.get("/") as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            page = await answer.text()
        async with session.post("/") as answer:
            assert answer.status == 405
    assert page == PAGE.read_text()
    assert not re.findall(r"(?:https?:)?//[a-z0-9.]+", page)
    assert "innerHTML" not in page  # what clients wrote is set as text only


def test_dashboard__when__it_reads_the_status__then__the_document_has_it() -> None:
    page, shown = PAGE.read_text(), document()
    used = set(re.findall(r"\bstatus\.(\w+)", page))
    assert used - {"json"} <= shown.keys() and "verdict" in used  # status.json is the address
    assert set(re.findall(r"\bservice\.(\w+)", page)) <= shown["service"].keys()
    assert set(re.findall(r"\bwallet\.(\w+)", page)) <= shown["wallet"].keys()
    assert set(re.findall(r"\btasks\.(\w+)", page)) <= shown["tasks"].keys()
    assert set(re.findall(r"\btask\.(\w+)", page)) <= shown["newest"][0].keys()
    assert set(re.findall(r"\bissue\.(\w+)", page)) <= {key for issue in shown["issues"] for key in issue} | {"at_risk"}


def states(text: str) -> set[str]:
    """States that the queries in a text name."""
    named = re.findall(r'state[!=]?[=~]\\?"([^"\\]+)', text)
    return {state for names in named for state in names.split("|")}


@pytest.mark.parametrize("name", ["alerts.yml", "grafana.json"])
def test_watchers__when__they_name_a_metric_or_a_state__then__it_exists(name: str) -> None:
    text = (CONFIG / name).read_text()
    known = {metric.name for metric in StatusCollector(document).collect()}
    named = set(re.findall(r"\baihd_[a-z_]+", text))
    assert named and named <= known
    assert states(text) and states(text) <= {str(state) for state in State}
    for ends in re.findall(r'state!~\\?"([^"\\]+)', text):  # what is open is all but what is over
        assert set(ends.split("|")) == FINAL
    kinds = set(re.findall(r'kind=\\?"(\w+)', text))
    assert kinds <= {"confirmed", "reserved", "owed", "bond", "committed"}


def test_grafana__when__read__then__a_dashboard_whose_panels_do_not_overlap() -> None:
    dashboard = json.loads((CONFIG / "grafana.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_document__when__a_task_runs__then__no_salt_and_no_key_material_in_it() -> None:
    salted = replace(TASK, salt=b"\x5a" * 32, stage=Stage.DONE)
    shown = status(replace(WELL, open_tasks=(salted,), newest=(salted,)))
    assert (b"\x5a" * 32).hex() not in json.dumps(shown)
