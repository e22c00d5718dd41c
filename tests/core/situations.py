"""Situations that a daemon can be in, as facts: one for each row of tests/core/situations.toml, which holds what is to be said of it.

`python -m tests.core.situations` prints the file as the code would write it now: read every sentence before you take it over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from aihd.core.assets import Asset
from aihd.core.task import Limits, Stage, State, Task, Where
from aihd.core.verdict import Facts, SourceFacts, WalletFacts, judge

ERG: Final = 10**9
HEIGHT: Final = 1000
SIGUSD: Final = b"\x53" * 32
LIMITS: Final = Limits(final_depth=10, claim_margin=10, release_margin=15)
WALLET: Final = WalletFacts(address="9hAddress", confirmed=3 * ERG, reserved=0, bond=5 * ERG, committed=0, score=16)
WELL: Final = Facts(
    running=True,
    market="m" * 64,
    height=HEIGHT,
    wallet=WALLET,
    open_tasks=(),
    states={State.PAID: 3},
    declines={},
    troubles={},
    limits=LIMITS,
    assets={SIGUSD: Asset(name="SigUSD", decimals=2, max_worth=2 * ERG)},
    expiry=900_000,
    allowance=2 * ERG,
    fee=1_100_000,
    services=2,
)
TASK: Final = Task(
    id=b"\xab" * 32,
    service_hash=b"\x02" * 32,
    input_commitment=b"\x03" * 32,
    worth=ERG // 2,
    payment=ERG // 2,
    client=b"\x02" * 33,
    claim_deadline=950,
    exec_window=120,
    locator="",
)
CLAIMED: Final = replace(TASK, where=Where.CLAIMED, since=960, claim_height=960, exec_deadline=1080)
RATING: Final = replace(
    CLAIMED, where=Where.RELEASED, stage=Stage.DONE, commit_deadline=1060, reveal_deadline=1120, since=998
)
IN_TOKEN: Final[dict[str, Any]] = {"asset": SIGUSD, "payment": 500, "worth": ERG}


def situations() -> Iterator[tuple[str, Facts]]:
    """Name and facts of each."""
    yield from _calm()
    yield from _tasks()
    yield from _idle()
    yield from _troubled()
    yield from _down()
    yield from _together()


def _with(*tasks: Task, **changes: Any) -> Facts:
    return replace(WELL, open_tasks=tasks, **changes)


def _calm() -> Iterator[tuple[str, Facts]]:
    yield "nothing to do", WELL
    yield "nothing to do, nothing ever done", replace(WELL, states={})
    yield "one task claimed, waits for its input", _with(CLAIMED)
    yield "two tasks, one of them running", _with(CLAIMED, replace(CLAIMED, id=b"\xcd" * 32, stage=Stage.RUNNING))
    yield "a task released, to rate", _with(RATING)
    yield "a task released, all of it held", _with(replace(RATING, holdback_bps=10_000))
    yield "a task released in SigUSD, half of it held", _with(replace(RATING, **IN_TOKEN, holdback_bps=5_000))
    yield (
        "held in both coins",
        _with(replace(RATING, holdback_bps=10_000), replace(RATING, id=b"\xcd" * 32, **IN_TOKEN, holdback_bps=10_000)),
    )
    yield "a failure that is to be settled", _with(replace(RATING, where=Where.FAILED, stage=Stage.BROKEN))
    yield (
        "an explorer that rests without having lied",
        replace(WELL, sources=(SourceFacts("explorer", "https://explorer.example", 0, "it gave no answer"),)),
    )
    yield "the market ends in more than two months", replace(WELL, expiry=HEIGHT + 43_200)
    yield "tasks passed over for now", replace(WELL, waiting={"busy": (2, "4 tasks are at work")})
    yield (
        "a good score, and a task that asks for more",
        replace(WELL, waiting={"reputation": (1, "it asks for a score of 90, ours is 16")}),
    )


def _tasks() -> Iterator[tuple[str, Facts]]:
    yield "its input is overdue", _with(replace(CLAIMED, claim_height=900, exec_deadline=1080))
    yield "it runs, and its release margin is reached", _with(replace(CLAIMED, stage=Stage.RUNNING, exec_deadline=1014))
    yield "executed, with time left", _with(replace(CLAIMED, stage=Stage.DONE, exec_deadline=1011))
    yield "executed, no block holds its receipt", _with(replace(CLAIMED, stage=Stage.DONE, exec_deadline=1009))
    yield (
        "executed, in the last block before its deadline",
        _with(replace(CLAIMED, stage=Stage.DONE, exec_deadline=1001)),
    )
    yield (
        "executed, its deadline is over",
        _with(replace(CLAIMED, stage=Stage.DONE, exec_deadline=990, note="no node answers")),
    )
    yield (
        "to be failed, with time left",
        _with(replace(CLAIMED, stage=Stage.BROKEN, exec_deadline=1050, note="unable: no memory")),
    )
    yield (
        "to be failed, near its deadline",
        _with(replace(CLAIMED, stage=Stage.BROKEN, exec_deadline=1005, note="unable: no memory")),
    )
    yield "in SigUSD, executed and late", _with(replace(CLAIMED, stage=Stage.DONE, exec_deadline=1004, **IN_TOKEN))
    yield (
        "two tasks late",
        _with(
            replace(CLAIMED, stage=Stage.DONE, exec_deadline=1004),
            replace(CLAIMED, id=b"\xcd" * 32, stage=Stage.DONE, exec_deadline=1002, worth=2 * ERG, payment=2 * ERG),
        ),
    )
    yield "a rating that ought to be settled", _with(replace(RATING, where=Where.RATED, reveal_deadline=980))
    yield "a claim that is not mined", _with(replace(TASK, claim_deadline=980))
    yield (
        "a slash, not acknowledged",
        replace(WELL, slashed=(replace(CLAIMED, where=Where.TIMED_OUT, note="the disk was full"),)),
    )


def _idle() -> Iterator[tuple[str, Facts]]:
    yield "no bond", replace(WELL, wallet=replace(WALLET, bond=0, bonded=False))
    yield "no bond, no money", replace(WELL, wallet=replace(WALLET, bond=0, bonded=False, confirmed=0))
    yield "a bond, and no money beside it", replace(WELL, wallet=replace(WALLET, confirmed=ERG // 1000))
    yield "all money reserved", replace(WELL, wallet=replace(WALLET, confirmed=ERG // 50, reserved=ERG // 50))
    yield "paused", replace(WELL, paused="2026-11-28T10:00:00+00:00")
    yield "paused, with a task at work", _with(CLAIMED, paused="2026-11-28T10:00:00+00:00")
    yield "no service offered", replace(WELL, services=0)
    yield "limits used up", replace(WELL, allowance=0)
    yield "limits nearly used up", replace(WELL, allowance=500_000)
    yield (
        "a negative score, and a task that asks for 0",
        replace(
            WELL,
            wallet=replace(WALLET, score=-20),
            waiting={"reputation": (3, "it asks for a score of 0, ours is -20")},
        ),
    )
    yield "a negative score that shuts nobody out", replace(WELL, wallet=replace(WALLET, score=-20))
    yield "the market has ended", replace(WELL, expiry=HEIGHT)
    yield "the wallet was not read yet", replace(WELL, wallet=None, height=None)


def _troubled() -> Iterator[tuple[str, Facts]]:
    def trouble(**troubles: str) -> Facts:
        return replace(WELL, troubles=troubles)

    yield "the node is silent", trouble(reconcile="http://127.0.0.1:9053 gave no answer for 55 s")
    yield (
        "the node is silent, with a task at work",
        _with(CLAIMED, troubles={"reconcile": "http://127.0.0.1:9053 gave no answer"}),
    )
    yield (
        "the node is silent, and a deadline has passed meanwhile by the clock",
        replace(_with(CLAIMED, troubles={"reconcile": "http://127.0.0.1:9053 gave no answer"}), unseen=90 * 120.0),
    )
    yield (
        "the node is silent, and a result waits for it",
        replace(_with(replace(CLAIMED, stage=Stage.DONE), troubles={"reconcile": "no answer"}), unseen=75 * 120.0),
    )
    yield (
        "the node stands still",
        replace(WELL, standstill="http://127.0.0.1:9053 stands still at height 1000", unseen=3600.0),
    )
    yield (
        "the node stands still, with a task at work",
        replace(_with(CLAIMED), standstill="http://127.0.0.1:9053 stands still at height 1000", unseen=3600.0),
    )
    yield (
        "nodo trusts our client id no more",
        trouble(
            credit="nodo does not trust our client id (it has 0 MU, a run takes 5 at its start, 3 are asked for); nodo credit_client ab 500"
        ),
    )
    yield "nodo is away", trouble(execution="127.0.0.1:50051 cannot be reached")
    yield "the database of nodo is read-only", trouble(bridge="/nodo/storage/database.sqlite cannot be written")
    yield "the disk is full", trouble(execute="the disk is full")
    yield "a defect", trouble(settle="defect: KeyError: 'x'")
    yield "a defect in the one that looks", trouble(reconcile="defect: KeyError: 'x'")
    yield (
        "a configuration that was not taken",
        trouble(reload="the configuration was not taken: policy.min_payment: 'much'"),
    )
    yield "a restored backup", replace(WELL, restored="2026-11-27T10:00:00+00:00")
    yield (
        "an explorer that lied",
        replace(WELL, sources=(SourceFacts("explorer", "https://explorer.example", 2, "it hides boxes"),)),
    )
    yield (
        "an explorer that lied and rests no more",
        replace(WELL, sources=(SourceFacts("explorer", "https://explorer.example", 2, ""),)),
    )
    yield "the market ends in a month", replace(WELL, expiry=HEIGHT + 21_600)


def _down() -> Iterator[tuple[str, Facts]]:
    off = replace(WELL, running=False)
    yield "down, nothing open", off
    yield "down, with a rating open", replace(off, open_tasks=(RATING,))
    yield "down, a task claimed", replace(off, open_tasks=(CLAIMED,))
    yield "down, a task executed", replace(off, open_tasks=(replace(CLAIMED, stage=Stage.DONE),))
    yield "down, a task to be failed", replace(off, open_tasks=(replace(CLAIMED, stage=Stage.BROKEN),))
    yield (
        "down, three tasks claimed",
        replace(
            off, open_tasks=tuple(replace(CLAIMED, id=bytes([n]) * 32, exec_deadline=1000 + 30 * n) for n in (1, 2, 3))
        ),
    )
    yield "down, the deadline over", replace(off, open_tasks=(replace(CLAIMED, exec_deadline=990),))
    yield "down, nothing ever seen", replace(off, height=None, wallet=None)
    yield "down, without a bond", replace(off, wallet=replace(WALLET, bonded=False, bond=0))


def _together() -> Iterator[tuple[str, Facts]]:
    late = replace(CLAIMED, stage=Stage.DONE, exec_deadline=1004)
    yield "late, and paused", _with(late, paused="2026-11-28T10:00:00+00:00")
    yield "late, and a defect", _with(late, troubles={"settle": "defect: KeyError: 'x'"})
    yield (
        "a defect, and no bond",
        replace(WELL, troubles={"rate": "defect: x"}, wallet=replace(WALLET, bonded=False, bond=0)),
    )
    yield (
        "no bond, and an explorer that lied",
        replace(
            WELL,
            wallet=replace(WALLET, bonded=False, bond=0),
            sources=(SourceFacts("explorer", "https://explorer.example", 2, "it hides boxes"),),
        ),
    )
    yield "late, and the bond is smaller than the slash", _with(late, wallet=replace(WALLET, bond=ERG // 100))


def told(facts: Facts) -> Mapping[str, Any]:
    """What is said of facts, as the file has it."""
    judgement = judge(facts)
    return {
        "verdict": str(judgement.verdict),
        "sentence": judgement.sentence,
        "issues": [issue.reason for issue in judgement.issues],
    }


def _written() -> Iterator[str]:
    for name, facts in situations():
        yield f"[{json.dumps(name)}]"
        for key, value in told(facts).items():
            yield f"{key} = {_toml(value)}"
        yield ""


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return "[" + "".join(f"\n    {json.dumps(item, ensure_ascii=False)}," for item in value) + ("\n]" if value else "]")


if __name__ == "__main__":
    print("\n".join(_written()).rstrip())
