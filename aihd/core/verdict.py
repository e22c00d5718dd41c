"""What is to be said of the daemon: one word, one sentence about money, and every issue with what mends it. Pure.

Promise: "Healthy" stands over nothing that loses money, and nothing that earns none. A daemon that claims no task says why and which
command changes it; one whose tasks are in danger says how much, until which height, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from aihd.core.assets import Assets, show_amount
from aihd.core.task import DEADLINES, FINAL, OWED, RELEASED_OPEN, Limits, State, Task
from aihd.core.words import about, blocks_left, count
from aihd.errors import InvariantError
from aihd.protocol import guards
from aihd.protocol.constants import SETTLE_GRACE
from aihd.protocol.plans import RESERVE
from aihd.protocol.units import format_erg

NOTICE: Final = 43_200  # blocks, two months, before a market ends in which its owners are told so
DEFECT: Final = "defect"  # how the trouble of a loop begins that is our own fault


class Verdict(StrEnum):
    """The first word of a status, the worst first."""

    DOWN = "Down"
    AT_RISK = "Money at risk"
    ERROR = "Error"
    NOT_EARNING = "Not earning"
    ISSUES = "Issues detected"
    HEALTHY = "Healthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletFacts:
    """nanoERG, as of the last look at the chain; `bonded` says that this wallet has a bond."""

    address: str
    confirmed: int
    reserved: int
    bond: int
    committed: int
    score: int
    bonded: bool = True


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A node or explorer and how it behaved: `lies` are those counted since the start; `resting` says why it is asked last, or nothing.

    `unfit` are the questions for which it is passed over now, each with the reason.
    """

    kind: str
    url: str
    lies: int
    resting: str
    unfit: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodoFacts:
    """Our credit at nodo, in its `unit`; `runs`: how many of the dearest service that we offer it is good for."""

    balance: int
    unit: str
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything a status is made of. `height` is the tip's; `troubles` maps a loop to what ails it.

    `newest` are the last tasks, newest first; `paused` and `restored` are the times since when, or None. `expiry` is the height at which
    the market ends. `allowance` is what the daemon may still spend by itself and `fee` what a transaction takes, in nanoERG; `services`
    is how many are offered. `waiting` counts the open escrows that we pass over for now, with the last sentence, by reason. `slashed` are
    tasks whose slash nobody has acknowledged. `standstill` says why the chain that is followed may not be the one that goes on. `set_up`
    names the chain's sources, `blind` what these cannot see; `set_aside` counts boxes under the market's scripts that are of no use.
    `unseen` is how many seconds ago the newest known block was made.
    """

    running: bool
    market: str
    height: int | None
    wallet: WalletFacts | None
    open_tasks: tuple[Task, ...]
    states: Mapping[State, int]
    declines: Mapping[str, tuple[int, str]]
    troubles: Mapping[str, str]
    limits: Limits
    seconds_per_block: float = 120.0
    newest: tuple[Task, ...] = ()
    paused: str | None = None
    restored: str | None = None
    sources: tuple[SourceFacts, ...] = ()
    nodo: NodoFacts | None = None
    assets: Assets = field(default_factory=dict)
    expiry: int | None = None
    allowance: int | None = None
    fee: int = 0
    services: int | None = None
    waiting: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    slashed: tuple[Task, ...] = ()
    standstill: str = ""
    unseen: float = 0.0
    set_up: str = ""
    blind: str = ""
    set_aside: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_blind(self) -> bool:
        """The chain goes on, and we do not see it."""
        return bool(self.standstill) or LOOKS in self.troubles

    @property
    def now(self) -> int | None:
        """The height of now: deadlines pass whether we see the chain or not, so while we do not it is counted by time."""
        if self.height is None or not self.is_blind:
            return self.height
        return self.height + int(self.unseen / self.seconds_per_block)


LOOKS: Final = "reconcile"  # the loop without which nothing is found, and nothing claimed


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """Something to look at: what is concerned, why, and the command or deed that mends it.

    `at_risk` is nanoERG that may be lost, up to the height `until`. `idle` says that it keeps the daemon from earning.
    """

    what: str
    reason: str
    command: str = ""
    at_risk: int = 0
    until: int | None = None
    idle: bool = False
    defect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict, its sentence, and every issue, the gravest first."""

    verdict: Verdict
    sentence: str
    issues: tuple[Issue, ...]


def judge(facts: Facts) -> Judgement:
    """Returns what is to be said of these facts."""
    issues = (*_endangered(facts), *_idle(facts), *_troubles(facts), *_others(facts))
    verdict = _verdict(facts, issues)
    return Judgement(verdict=verdict, sentence=_sentence(facts, verdict, issues), issues=issues)


def _verdict(facts: Facts, issues: Iterable[Issue]) -> Verdict:
    if not facts.running:
        return Verdict.DOWN
    for verdict, holds in (
        (Verdict.AT_RISK, any(issue.at_risk for issue in issues)),
        (Verdict.ERROR, any(issue.defect for issue in issues)),
        (Verdict.NOT_EARNING, any(issue.idle for issue in issues)),
        (Verdict.ISSUES, any(issues)),
    ):
        if holds:
            return verdict
    return Verdict.HEALTHY


# -- what may be lost


def deadline(task: Task, limits: Limits) -> int | None:
    """The height up to which its state may last; None for an end, and where the chain has not yet told what it follows from."""
    rule = None if task.state in FINAL else DEADLINES[task.state]
    try:
        return rule(task, limits) if rule else None
    except InvariantError:
        return None


def at_stake(task: Task, bond: int) -> tuple[int, int]:
    """nanoERG that a missed deadline would cost us: of the payment, which a failure gives back anyway, and of the bond."""
    if task.state not in OWED and task.state is not State.FAILING:
        return 0, 0
    return (0 if task.state is State.FAILING else task.worth), guards.slash(bond, task.worth)


def _endangered(facts: Facts) -> Iterator[Issue]:
    """Tasks that are late; with the daemon down, every task that it has claimed."""
    for task in facts.open_tasks:
        stake = sum(at_stake(task, _bond(facts)))
        if stake and not facts.running:
            yield _at_risk(facts, task, "waits for the daemon", "start aihd", stake=stake)
        elif stake and _is_late(facts, task):
            yield _at_risk(facts, task, _LATE[task.state], f"aihd explain {_short(task)}", stake=stake)
        elif not stake and _is_over(facts, task):
            reason = f"{_name(task)} is {task.state} since height {deadline(task, facts.limits)}, and ought to be over{_note(task)}"
            yield Issue(what=_name(task), reason=reason, command=f"aihd explain {_short(task)}")


_LATE: Final[Mapping[State, str]] = {
    State.AWAITING_INPUT: "got no input in time, and is not failed yet",
    State.READY: "has its input, and nodo has not started it",
    State.RUNNING: "still runs",
    State.EXECUTED: "is executed, and no block holds its receipt yet",
    State.FAILING: "cannot be delivered, and its client has no money back yet",
}


def _at_risk(facts: Facts, task: Task, why: str, command: str, *, stake: int) -> Issue:
    reason = f"{_name(task)} {why}{_note(task)}: {_lost(facts, task)}{_until(facts, task.exec_deadline)}"
    return Issue(what=_name(task), reason=reason, command=command, at_risk=stake, until=task.exec_deadline)


def _until(facts: Facts, until: int | None) -> str:
    now = facts.now
    if until is None or now is None:
        return ""
    if until <= now:
        return f" since height {until}: anybody may time it out now"
    return f" until height {until} ({blocks_left(until - now, facts.seconds_per_block)} from now)"


def _lost(facts: Facts, task: Task) -> str:
    pay, slash = at_stake(task, _bond(facts))
    parts = [f"{format_erg(pay)} of pay"] if pay else []
    parts += [f"{format_erg(slash)} of the bond"] if slash else []
    return f"{' and '.join(parts)} {'is' if len(parts) == 1 else 'are'} at risk"


def _bond(facts: Facts) -> int:
    return facts.wallet.bond if facts.wallet else 0


def _is_over(facts: Facts, task: Task) -> bool:
    until = deadline(task, facts.limits)
    return facts.now is not None and until is not None and facts.now > until


def _is_late(facts: Facts, task: Task) -> bool:
    """Past what its state may last, or finished and unpublished so near to its deadline that a reorg could undo what is sent now."""
    if _is_over(facts, task):
        return True
    finished = task.state in (State.EXECUTED, State.FAILING)
    if not finished or task.exec_deadline is None or facts.now is None:
        return False
    return task.exec_deadline - facts.now < facts.limits.final_depth


def _short(task: Task) -> str:
    """Enough of its id to name it by."""
    return task.id.hex()[:16]


def _name(task: Task) -> str:
    return f"task {_short(task)}…"


def _note(task: Task) -> str:
    return f" ({task.note})" if task.note else ""


# -- what keeps us from earning


def _idle(facts: Facts) -> Iterator[Issue]:
    if not facts.running:
        return
    if facts.paused:
        reason = f"no new task is taken: paused since {facts.paused}"
        yield Issue(what="service", reason=reason, command="aihd resume", idle=True)
    yield from _penniless(facts)
    if facts.services == 0:
        reason = "no service is offered, so every task is declined"
        yield Issue(
            what="services", reason=reason, command="see [[services]] in the configuration, then aihd check", idle=True
        )
    if facts.allowance is not None and facts.allowance < facts.fee:
        left, fee = format_erg(facts.allowance), format_erg(facts.fee)
        reason = f"the limits of wallet.max_spend_* leave {left} for now, and a transaction takes {fee}"
        yield Issue(what="wallet", reason=reason, command="wait, or raise the limits and restart", idle=True)
    if facts.height is not None and facts.expiry is not None and facts.height >= facts.expiry:
        yield Issue(what="market", reason=_ending(facts, facts.expiry), command="aihd bond withdraw", idle=True)
    if "reputation" in facts.waiting and facts.wallet and facts.wallet.score < 0:
        number, last = facts.waiting["reputation"]
        reason = (
            f"our score of {facts.wallet.score} shuts us out of {count(number, 'open task')} (the last one: {last})"
        )
        yield Issue(what="score", reason=reason, command="aihd policy", idle=True)


def _penniless(facts: Facts) -> Iterator[Issue]:
    """What a wallet lacks to claim a task."""
    wallet = facts.wallet
    if wallet is None:
        yield Issue(
            what="wallet",
            reason="the chain and the wallet have not been read yet",
            command="wait, or aihd check",
            idle=True,
        )
        return
    if not wallet.bonded:
        reason = "this wallet has no bond, and only a bond can claim tasks"
        yield Issue(what="bond", reason=reason, command='aihd bond open --amount "5 ERG"', idle=True)
    needed, free = RESERVE + 2 * facts.fee, wallet.confirmed - wallet.reserved
    if free < needed:
        held = f" ({format_erg(wallet.reserved)} more are reserved)" if wallet.reserved else ""
        reason = f"the wallet has {format_erg(free)} to spend{held}, and a claim takes {format_erg(needed)} for a while"
        yield Issue(what="wallet", reason=reason, command=f"send ERG to {wallet.address}", idle=True)


# -- the rest

CREDIT: Final = (
    "credit"  # where a loop tells that nodo does not trust our client id; what mends it stands behind a semicolon
)
_CONCERNS: Final[Mapping[str, str]] = {
    LOOKS: "the chain cannot be followed, and no new task is taken meanwhile",
    "execution": "services cannot be run",
    "execute": "services cannot be run",
    "settle": "results cannot be published",
    "rate": "ratings cannot go on",
    "claim": "tasks cannot be claimed",
    "watch": "tasks cannot be looked for",
    "bridge": "reputation cannot be written into nodo",
    CREDIT: "services cannot be started",
    "price": "nodo does not say what a run costs",
    "stock": "not all services are offered",
    "compare": "explorers cannot be compared with the node",
    "instances": "instances of services may still run, and cost",
    "instances left": "instances that an earlier run left cannot be looked for",
    "report": "the daemon does not report",
    "reload": "the new configuration is not in force",
}


def _troubles(facts: Facts) -> Iterator[Issue]:
    for name, reason in sorted(facts.troubles.items()):
        defect = reason.startswith(DEFECT)
        told, _, cure = reason.partition("; ") if name == CREDIT else (reason, "", "")
        yield Issue(
            what=f"{name} loop",
            reason=f"{_CONCERNS.get(name, f'the {name} loop is in trouble')}: {told}{_meanwhile(facts) if name == LOOKS else ''}",
            command="see the log, and please report it" if defect else cure or "aihd check",
            idle=name in (LOOKS, CREDIT),
            defect=defect,
        )


def _meanwhile(facts: Facts) -> str:
    """What that puts at risk, if it lasts."""
    owing = [task for task in facts.open_tasks if task.exec_deadline is not None and any(at_stake(task, _bond(facts)))]
    if not owing or facts.now is None:
        return "; nothing is at risk"
    whole = format_erg(sum(sum(at_stake(task, _bond(facts))) for task in owing))
    first = min(task.exec_deadline or 0 for task in owing)
    left = blocks_left(first - facts.now, facts.seconds_per_block)
    return (
        f"; {whole} will be at risk in {count(len(owing), 'task')} if it lasts until height {first} ({left} from now)"
    )


def _others(facts: Facts) -> Iterator[Issue]:
    if facts.standstill:
        reason = f"the chain does not go on: {facts.standstill}{_meanwhile(facts)}"
        command = "see the node's log and its peers, or name another in chain.node_urls"
        yield Issue(what="chain", reason=reason, command=command, idle=True)
    if facts.restored:
        reason = f"the database was put back from the backup of {facts.restored}; what happened since is known once the chain was read"
        yield Issue(what="database", reason=reason, command="start aihd, and wait")
    for task in facts.slashed:
        slash = format_erg(guards.slash(task.worth, task.worth))
        reason = f"{_name(task)} missed its deadline, and {slash} of the bond went to its client{_note(task)}"
        yield Issue(what=_name(task), reason=reason, command=f"aihd tasks acknowledge {_short(task)}")
    if facts.expiry is not None and facts.height is not None and facts.expiry - NOTICE < facts.height < facts.expiry:
        yield Issue(what="market", reason=_ending(facts, facts.expiry), command="aihd bond withdraw")
    for source in facts.sources:
        if source.resting and source.lies:
            reason = f"the {source.kind} {source.url} was found untrue, and is asked last: {source.resting}"
            yield Issue(what=source.kind, reason=reason, command="name another one in [chain]")
        elif source.unfit:
            reason = f"the {source.kind} {source.url} is passed over for some questions: {'; '.join(source.unfit)}"
            yield Issue(what=source.kind, reason=reason, command="aihd check, or name another one in [chain]")


def _ending(facts: Facts, expiry: int) -> str:
    """What an owner has to do about a market that ends."""
    left = expiry - (facts.height or 0)
    when = (
        f"ends at height {expiry}, in {blocks_left(left, facts.seconds_per_block)}"
        if left > 0
        else f"ended at height {expiry}"
    )
    return f"the market {when}: no task can be claimed after that; withdraw the bond and join a new one"


# -- the sentence


def _sentence(facts: Facts, verdict: Verdict, issues: tuple[Issue, ...]) -> str:
    endangered = [issue for issue in issues if issue.at_risk]
    if verdict is Verdict.DOWN:
        return _down(facts, endangered)
    if verdict is Verdict.HEALTHY:
        return _at_work(facts)
    worst = {
        Verdict.AT_RISK: max(endangered, key=lambda issue: issue.at_risk, default=None),
        Verdict.ERROR: next((issue for issue in issues if issue.defect), None),
        Verdict.NOT_EARNING: next((issue for issue in issues if issue.idle), None),
    }.get(verdict) or issues[0]
    return f"{_total(endangered)}{worst.reason}{_mend(worst)}"


def _mend(issue: Issue) -> str:
    return f". What to do: {issue.command}" if issue.command else ""


def _total(endangered: list[Issue]) -> str:
    if len(endangered) < 2:
        return ""
    whole = sum(issue.at_risk for issue in endangered)
    return f"{format_erg(whole)} are at risk in {count(len(endangered), 'task')}; "


def _down(facts: Facts, endangered: list[Issue]) -> str:
    if not endangered:
        return (
            f"aihd is not running; {count(len(facts.open_tasks), 'task')} open, nothing at risk. What to do: start aihd"
        )
    whole = format_erg(sum(issue.at_risk for issue in endangered))
    wait = f"{count(len(endangered), 'claimed task')} wait{'s' if len(endangered) == 1 else ''} for it"
    first = min((issue.until for issue in endangered if issue.until is not None), default=None)
    if first is None or facts.height is None:
        return f"aihd is not running, and {wait}: start it, or {whole} are lost"
    if first <= facts.height:
        return f"aihd is not running, and {wait}; a deadline is over: start it at once, {whole} are being lost"
    left = about((first - facts.height) * facts.seconds_per_block)
    return f"aihd is not running, and {wait}: start it before height {first} ({left} after it was last seen), or {whole} are lost"


def parting(tasks: Iterable[Task], height: int, seconds_per_block: float) -> str:
    """What a daemon that leaves with claimed tasks says: how many, until when it has to be back, and what else is lost."""
    owing = list(tasks)
    pay = sum(task.worth for task in owing if task.state in OWED)
    slash = sum(guards.slash(task.worth, task.worth) for task in owing)
    first = min((task.exec_deadline for task in owing if task.exec_deadline is not None), default=height)
    parts = [format_erg(pay)] if pay else []
    return (
        f"{count(len(owing), 'task')} unpaid: start again before height {first} ({blocks_left(first - height, seconds_per_block)}), "
        f"or {' and '.join([*parts, f'{format_erg(slash)} of the bond'])} are lost"
    )


def _at_work(facts: Facts) -> str:
    paid = facts.states.get(State.PAID, 0)
    released = sum(task.state in RELEASED_OPEN for task in facts.open_tasks)
    already = f", {released} of them released already" if released else ""
    owed = sum(task.worth for task in facts.open_tasks if task.state in OWED)
    held = "".join(
        f"; {share.text} held until clients' marks are in" for share in held_shares(facts.open_tasks, facts.assets)
    )
    return f"{count(len(facts.open_tasks), 'task')} open{already}; {paid} closed as paid; {format_erg(owed)} owed to us{held}."


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldShare:
    """What waits in ratings for clients' marks in one asset, in smallest units, and the height up to which it may."""

    asset: bytes | None
    amount: int
    text: str
    until: int


def held_shares(tasks: Iterable[Task], assets: Assets) -> list[HeldShare]:
    """Returns what is held, one entry an asset: held money is not earned money."""
    sums: dict[bytes | None, tuple[int, int]] = {}
    for task in tasks:
        if held := task.amounts.held:
            amount, until = sums.get(task.asset, (0, 0))
            sums[task.asset] = (amount + held, max(until, (task.reveal_deadline or 0) + SETTLE_GRACE))
    return [
        HeldShare(asset=asset, amount=amount, text=show_amount(assets, asset, amount), until=until)
        for asset, (amount, until) in sums.items()
    ]
