"""Verbs about reputation: what the market's history says of a key, term by term, and of everybody. They read the store, not the chain."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer
from ergo_lib_python.chain import Address, NetworkPrefix
from rich.console import Console
from rich.table import Table

from aihd.cli.admin import journal_of
from aihd.cli.common import ConfigOption, JsonOption, settings_of, wallet_at_work
from aihd.client.ranking import funders, known, refresh
from aihd.config import Settings
from aihd.errors import UsageError
from aihd.protocol.trees import address_of, p2pk_tree
from aihd.protocol.units import format_erg
from aihd.reputation.engine import Engine
from aihd.reputation.explain import Explanation, RatingTerm
from aihd.reputation.explain import explain as explained
from aihd.reputation.fixed import text
from aihd.reputation.history import Role
from aihd.reputation.score import Verdict
from aihd.screen import console_of, say

reputation_app = typer.Typer(no_args_is_help=True, help="What the chain says of nodes and clients.")
ClientOption = Annotated[bool, typer.Option("--client", help="as a client, not as a node")]


@reputation_app.command("explain")
def reputation_explain(
    who: Annotated[str, typer.Argument(help="a public key (66 hexadecimal digits) or its address")],
    config: ConfigOption = None,
    client: ClientOption = False,
    as_json: JsonOption = False,
) -> None:
    """The score of a key, and every rating that it is made of with each of its factors."""
    settings = settings_of(config)
    key = key_of(who)
    scores = _scores(settings)
    found = explained(scores, key, _role(client))
    if as_json:
        say(json.dumps(_document(found, scores.height, settings), indent=2))
    else:
        _tell(console_of(), found, scores.height, settings)


@reputation_app.command("list")
def reputation_list(config: ConfigOption = None, client: ClientOption = False, as_json: JsonOption = False) -> None:
    """Everybody whom a final rating names, the best first."""
    settings = settings_of(config)
    scores, role = _scores(settings), _role(client)
    verdicts = {key: scores.verdict(key, role) for key in scores.known(role)}
    best = sorted(verdicts, key=lambda key: (-verdicts[key].score.standing, key))
    if as_json:
        rows = [{**_party(key, settings), **_verdict(verdicts[key])} for key in best]
        say(json.dumps({"height": scores.height, "role": role.name.lower(), "parties": rows}, indent=2))
        return
    table = Table("key", "standing", "score", "confidence", "raters")
    for key in best:
        score = verdicts[key].score
        numbers = (score.standing, score.value, score.confidence, verdicts[key].raters)
        table.add_row(key.hex(), *map(text, numbers))
    console = console_of()
    console.print(table)
    console.print(f"as of height {scores.height}", highlight=False)


@reputation_app.command("update")
def reputation_update(config: ConfigOption = None) -> None:
    """Read what is new on the chain into this data folder. For a client; a running daemon does it by itself."""
    say(f"known up to height {asyncio.run(_update(settings_of(config)))}")


async def _update(settings: Settings) -> int:
    async with wallet_at_work(settings) as who:
        return await refresh(who)


def key_of(who: str) -> bytes:
    """The 33-byte key that a command line names by its hexadecimal digits or by its address; UsageError for anything else."""
    try:
        key = bytes.fromhex(who) if len(who) == 66 else bytes(Address(who).ergo_tree())[3:]
        if p2pk_tree(key) == bytes(Address(address_of(p2pk_tree(key))).ergo_tree()):
            return key
    except ValueError:
        pass
    raise UsageError(f"{who!r}: expected a public key of 66 hexadecimal digits, or the address of one")


def _role(client: bool) -> Role:
    return Role.CLIENT if client else Role.NODE


def _scores(settings: Settings) -> Engine:
    with journal_of(settings) as journal:
        return known(journal, settings.chain.final_depth, funders(settings.reputation.public_funders))


def _prefix(settings: Settings) -> NetworkPrefix:
    return settings.chain.prefix


def _party(key: bytes, settings: Settings) -> dict[str, Any]:
    return {"key": key.hex(), "address": address_of(p2pk_tree(key), _prefix(settings))}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    """Numbers in units of 10^-9, but the consensus: in tenths."""
    return {
        "standing": verdict.score.standing,
        "score": verdict.score.value,
        "confidence": verdict.score.confidence,
        "evidence": verdict.evidence,
        "diversity": verdict.diversity,
        "raters": verdict.raters,
        "ratings": verdict.ratings,
        "consensus": verdict.consensus,
        "turned": verdict.turned,
    }


def _term(term: RatingTerm) -> dict[str, Any]:
    record = term.record
    return {
        "task": record.task.hex(),
        "height": record.height,
        "outcome": record.outcome.value,
        "worth": record.worth,
        "asset": record.asset and record.asset.hex(),
        "held": record.held,
        "burned": record.burned,
        "client_mark": record.client_mark,
        "node_mark": record.node_mark,
        "rater": term.rater.hex(),
        "opinion": term.opinion,
        "value": term.value,
        "evidence": term.evidence,
        "burn": term.burn,
        "decay": term.decay,
        "repeat": term.repeat,
        "fresh": term.fresh,
        "outlier": term.outlier,
        "share": term.share,
        "recent": term.recent,
    }


def _document(found: Explanation, height: int, settings: Settings) -> dict[str, Any]:
    return {
        **_party(found.key, settings),
        "role": found.role.name.lower(),
        "height": height,
        **_verdict(found.verdict),
        "terms": [_term(term) for term in found.terms],
        "older": found.older,
        "self_dealt": found.self_dealt,
        "waiting": found.waiting,
    }


def _tell(console: Console, found: Explanation, height: int, settings: Settings) -> None:
    verdict = found.verdict
    score = verdict.score

    def line(said: str) -> None:
        console.print(said, highlight=False, markup=False)

    line(f"{found.key.hex()} as a {found.role.name.lower()}, {address_of(p2pk_tree(found.key), _prefix(settings))}")
    line(f"score {text(score.value)} with confidence {text(score.confidence)}, standing {text(score.standing)}")
    line(
        f"{text(verdict.ratings)} ratings of {text(verdict.raters)} raters: diversity {text(verdict.diversity)}, "
        f"evidence {text(verdict.evidence)}; as of height {height}"
    )
    if verdict.consensus is not None:
        line(f"the raters agree on {verdict.consensus / 10:+.1f}")
    if verdict.turned:
        line(
            f"{text(verdict.turned)} below the mean of all opinions, {text(score.value + verdict.turned)}: recent work was worse"
        )
    if found.terms:
        console.print(_table(found.terms))
    left_out = (
        (found.older, "older ratings"),
        (found.self_dealt, "ratings of itself"),
        (found.waiting, "not final yet"),
    )
    for count, what in left_out:
        if count:
            line(f"left out: {count} {what}")


def _table(terms: tuple[RatingTerm, ...]) -> Table:
    names = (
        "task",
        "height",
        "worth",
        "burned",
        "rater",
        "opinion",
        "value",
        "burn",
        "decay",
        "repeat",
        "fresh",
        "outlier",
        "share",
        "recent",
    )
    table = Table(*names)
    for term in terms:
        record = term.record
        said = (term.opinion, term.value, term.burn, term.decay, term.repeat, term.fresh, term.outlier)
        burned = format_erg(record.burned) if record.burned else ""
        head = (record.task.hex()[:12], str(record.height), format_erg(record.worth), burned, term.rater.hex()[:12])
        table.add_row(*head, *(text(number, 2) for number in (*said, term.share, term.recent)))
    return table
