"""Keeps the facts that a status is made of: for the page while we run, and in the journal for when we do not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

import structlog

from aihd.config import Settings
from aihd.config_values import SECONDS_PER_BLOCK
from aihd.core.task import Limits
from aihd.core.verdict import Facts, NodoFacts, SourceFacts, WalletFacts
from aihd.core.views import status
from aihd.ops.notify import Notifier
from aihd.ops.web import Health
from aihd.protocol.trees import address_of
from aihd.services.engine import Engine, guarded
from aihd.services.reconcile import Reconcile
from aihd.store.journal import Journal

log = structlog.get_logger()

KEY: Final = "report"
SILENCE: Final = 600.0  # seconds without a look at the chain after which we are not healthy
EVERY: Final = 1.0
NEWEST: Final = 20  # tasks that a status names one by one
REFRESH: Final = 60.0  # seconds after which the wallet is read again though there is no new block


class Report:
    """The newest facts of a running daemon."""

    def __init__(self, engine: Engine, reconcile: Reconcile) -> None:
        self._engine = engine
        self._reconcile = reconcile
        self._wallet: WalletFacts | None = None
        self._height: int | None = None
        self._seen = ("", 0.0)

    def document(self) -> dict[str, Any]:
        """The status document now."""
        engine = self._engine
        seconds = SECONDS_PER_BLOCK[engine.view.deployment.network]
        facts = facts_of(engine.journal, self._height, self._wallet, engine.health, engine.limits, running=True)
        return status(
            replace(
                facts,
                sources=tuple(self._sources()),
                nodo=self._nodo(),
                assets=engine.policy.assets,
                expiry=engine.view.deployment.expiry,
                services=len(engine.policy.services),
                fee=engine.policy.tx_fee,
                allowance=None if self._height is None else engine.submitter.allowance(self._height),
                waiting=engine.waiting,
                seconds_per_block=seconds,
                standstill=engine.view.standstill(time.time(), seconds),
                unseen=self._unseen(),
                set_up=str(engine.view.sources.set_up),
                blind=engine.view.sources.blind,
                set_aside=engine.view.set_aside,
            )
        )

    def _unseen(self) -> float:
        """Seconds since the newest known block was made."""
        if not self._engine.sighted or not self._engine.tip.headers:
            return 0.0
        made: int = self._engine.tip.headers[0]["timestamp"]
        return max(0.0, time.time() - made / 1000)

    def _nodo(self) -> NodoFacts | None:
        offered = self._engine.policy.services.keys()
        held = [credit for key, credit in self._engine.credit.items() if key in offered]
        if not held:
            return None
        least = min(held, key=lambda credit: credit.runs)
        return NodoFacts(balance=least.balance, unit=least.unit, runs=least.runs)

    def _sources(self) -> Iterator[SourceFacts]:
        view = self._engine.view
        for kind, source in (("node", view.node), ("explorer", view.explorer)):
            for server in source.servers:
                resting = server.reason if server.rests else ""
                yield SourceFacts(kind, server.url, server.lies, resting, tuple(server.unfit_now))

    def healthy(self) -> Health:
        """Whether the loop turns, whatever the chain sources answer."""
        silent = time.monotonic() - self._reconcile.turned
        return Health(silent < SILENCE, f"last look at the chain {silent:.0f} s ago, height {self._height}")

    def ready(self) -> Health:
        troubles = self._engine.health
        if self._wallet is None:
            return Health(False, "the wallet has not been read yet")
        return Health(not troubles, "; ".join(f"{k}: {v}" for k, v in troubles.items()) or "at work")

    async def keep(self, notifier: Notifier, watchdog: float | None) -> None:
        """Forever: refresh the facts, write them down, and tell systemd that the daemon is alive."""
        while True:
            await guarded(self._engine, "report", self._refresh())
            notifier.status(self.document()["sentence"])
            if self.healthy().ok:
                notifier.watchdog()
            await asyncio.sleep(min(EVERY, watchdog or EVERY))

    async def _refresh(self) -> None:
        engine = self._engine
        header, at = self._seen
        if header == engine.tip.info.header_id and time.monotonic() - at < REFRESH:
            return
        situation = await engine.submitter.situation()
        tree = engine.signer.tree
        address = address_of(tree, engine.view.prefix)
        confirmed = sum(box.value for box in await engine.view.wallet(tree))
        available = sum(box.value for box in situation.funds.boxes)
        bond = situation.bond.content if situation.bond else None
        self._wallet = WalletFacts(
            address=address,
            confirmed=confirmed,
            reserved=max(0, confirmed - available),
            bond=bond.amount if bond else 0,
            committed=bond.committed if bond else 0,
            score=bond.score if bond else 0,
            bonded=bond is not None,
        )
        self._height = situation.tip.height
        self._seen = (situation.tip.info.header_id, time.monotonic())
        snapshot = {
            "height": self._height,
            "wallet": asdict(self._wallet),
            "troubles": engine.health,
            "expiry": engine.view.deployment.expiry,
            "services": len(engine.policy.services),
            "waiting": engine.waiting,
            "at": time.time(),
        }
        engine.journal.remember(KEY, json.dumps(snapshot))


def facts_of(
    journal: Journal,
    height: int | None,
    wallet: WalletFacts | None,
    troubles: Mapping[str, str],
    limits: Limits,
    *,
    running: bool,
) -> Facts:
    return Facts(
        running=running,
        market=journal.meta().get("market", ""),
        height=height,
        wallet=wallet,
        open_tasks=tuple(journal.open_tasks()),
        states=journal.states(),
        declines=journal.declines(),
        troubles=dict(troubles),
        limits=limits,
        newest=tuple(journal.tasks(NEWEST)),
        paused=journal.paused(),
        restored=journal.restored_from(),
        slashed=tuple(journal.slashed()),
    )


def last_height(journal: Journal) -> int | None:
    """The tip's height when the daemon last wrote its facts down; None when it never did."""
    height = json.loads(journal.meta().get(KEY, "{}")).get("height")
    return height if isinstance(height, int) else None


def status_on_disk(settings: Settings, *, running: bool) -> dict[str, Any]:
    """The status document from the journal alone, with the facts of the daemon's last report."""
    with Journal(settings.database, read_only=True) as journal:
        last = json.loads(journal.meta().get(KEY, "{}"))
        wallet = WalletFacts(**last["wallet"]) if "wallet" in last else None
        troubles = dict(last.get("troubles", {})) if running else {}
        age = time.time() - last.get("at", time.time())
        if running and age > SILENCE:
            troubles["report"] = f"no sign of life for {age:.0f} s"
        facts = facts_of(journal, last.get("height"), wallet, troubles, settings.margins, running=running)
        return status(
            replace(
                facts,
                assets=settings.asset_names,
                expiry=last.get("expiry"),
                services=last.get("services"),
                fee=settings.wallet.fee,
                waiting={code: (number, text) for code, (number, text) in last.get("waiting", {}).items()},
                seconds_per_block=SECONDS_PER_BLOCK[settings.chain.network],
            )
        )
