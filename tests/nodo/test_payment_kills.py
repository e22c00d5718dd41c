"""A payment between two nodos, with a kill of either at every step: nobody pays twice, and nothing is credited twice."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from offchain import ERG
from payment_place import ENDED, Nodo, Place, nodo, payment_place

from aihd.nodo.payment.deposit import salt_of
from aihd.ops.failpoints import AT, LOG

BEFORE_TELLING = "the payer's nodo: before it tells the payee"
SPENT = "payment spent: after#1"
PAYEE_S = ("payment spent: before#1", SPENT)


@dataclass
class Two:
    """A nodo that pays and one that credits, each in a folder of its own. `paid` counts the credits for one payment."""

    place: Place
    stack: AsyncExitStack
    folder: Path
    number: int = 0
    killed: list[str] = field(default_factory=list)

    async def start(self, name: str, settings: Path, at: str = "") -> Nodo:
        (self.folder / name).mkdir(exist_ok=True)
        watched = {LOG: str(self.folder / f"{name}.points"), AT: at}
        return await self.stack.enter_async_context(nodo(self.folder / name, settings, watched=watched))

    async def payer(self, at: str = "") -> Nodo:
        started = await self.start("payer", self.place.settings(wait="0.5 s"), at)
        await started.call("retell after", 0)
        return started

    async def payee(self, at: str = "") -> Nodo:
        settings = self.folder / "payee.toml"
        kept = {"config": str(self.place.folder / "payer.toml"), "payee": self.place.payee, "patience": "3 s"}
        settings.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in kept.items()))
        return await self.start("payee", settings, at)

    async def settle(self, amount: int, at: str) -> int:
        """Pay as nodo does, however often one of the two is killed at that point; how often the payee credited it."""
        point = re.sub("(?<=deposit:)[0-9a-f]+", salt_of(f"token-{self.number}").hex(), at)
        payer = await self.payer("" if at in PAYEE_S else point)
        payee = await self.payee(at if at in PAYEE_S else "")
        for _ in range(3):
            token, self.number = (
                f"token-{self.number}",
                self.number + 1,
            )  # nodo asks for another whenever it begins again
            try:
                told = await self.place.paid(payer.pay(amount, token, self.place.script))
            except RuntimeError as error:
                assert str(error) == ENDED, str(error)
                payer = await self.dead(at, self.payer())
                continue
            if at == BEFORE_TELLING and at not in self.killed:
                payer.process.kill()
                payer = await self.dead(at, self.payer())
                continue
            try:
                credited = await payee.call("validate", amount, token, told["script"])
            except RuntimeError as error:
                assert str(error) == ENDED, str(error)
                payee = await self.dead(at, self.payee())
                await payer.call("communicated", token, "unacknowledged")
                continue
            await payer.call("communicated", token, "communicated" if credited else "rejected")
            return int(credited)
        raise AssertionError("it goes on and on")

    async def dead(self, at: str, again: Awaitable[Nodo]) -> Nodo:
        self.killed.append(at)
        return await again

    def points(self) -> list[str]:
        """Where a payer was in a payment that nobody disturbed."""
        return list(dict.fromkeys((self.folder / "payer.points").read_text().splitlines()))


FEW = ["submit post: before#1", "submit post: after#1", BEFORE_TELLING, *PAYEE_S]


@pytest.mark.asyncio
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "every step"])
async def test_payment__when__either_side_is_killed_at_a_step__then__paid_once_and_credited_once(
    tmp_path: Path, every: bool
) -> None:
    """Only where the payee's nodo is killed between the note of a payment and its credit, the credit is missing."""
    async with payment_place(tmp_path) as place, AsyncExitStack() as stack:
        two = Two(place, stack, tmp_path / "two")
        two.folder.mkdir()
        assert await two.settle(ERG, "") == 1
        steps = [*(p for p in two.points() if int(p.rpartition("#")[2]) <= 2), *FEW[2:]] if every else FEW
        for number, step in enumerate(steps, 1):
            credited = await two.settle(ERG // 20 + number, step)
            posted = len(place.node.engine.journal.tasks())
            print(f"{step}: killed {step in two.killed}, escrows {posted - number}, credits {credited}")
            assert (posted, credited) == (number + 1, 0 if step == SPENT else 1), step
        assert set(FEW) <= set(two.killed)
        assert len(two.killed) > len(steps) * 0.8, "a payment may be done before a point is reached a second time"
