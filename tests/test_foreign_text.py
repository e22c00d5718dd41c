"""Text that strangers wrote never reaches a terminal, a log or a page as more than text."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from offchain import digest
from test_cli import Place, place
from test_verbs import TASK, at, inside, journal, within

from aihd.core.task import Stage
from aihd.errors import one_line
from aihd.services.report import KEY
from aihd.store.journal import Journal
from aihd.text import plain, plain_all

__all__ = ["journal", "place"]

ROOT = Path(__file__).parent.parent / "aihd"
# Escapes, a title, a link, bells and returns, C1, bidi overrides and isolates, invisible ones, markup that closes and opens, emoji codes.
HOSTILE = (
    "[/x][bold red]HEALTHY[/] :smile: \x1b[31mred\x1b]0;title\x07\x1b]8;;http://evil\x1b\\link\r\b\x7f\x9b2J\x85"
    "\u202egnirts\u2066\u2069\u200b\u200f\ufeff\u2028\u2029\x00 \ud800 end"
)
DANGEROUS = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def dangerous(shown: str) -> set[str]:
    return {repr(char) for char in shown if char != "\n" and unicodedata.category(char) in DANGEROUS}


def test_plain__when__any_character__then__only_visible_ones_are_left() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    assert not dangerous(plain(every))
    assert "\n" not in plain(every)
    assert plain("äöü 漢字 🙂 [bold]") == "äöü 漢字 🙂 [bold]"
    assert plain("a\x1b[31m\u202eb\tc\nd") == "a\\x1b[31m\\u202eb c d"
    assert plain("a\nb", lines=True) == "a\nb"
    assert not dangerous(one_line(ValueError(HOSTILE * 100), 10_000))
    assert not dangerous(json.dumps(plain_all({HOSTILE: [HOSTILE, {"a": HOSTILE}, 7, None]}), ensure_ascii=False))


@pytest.fixture
def spoiled(journal: Journal) -> Journal:
    """A journal in which everything that a stranger can put there is hostile."""
    journal.add(
        replace(TASK, id=digest("2"), locator=HOSTILE.replace("\ud800", ""), note=HOSTILE.replace("\ud800", ""))
    )
    journal.update(TASK.id, "cannot be delivered", stage=Stage.BROKEN, note=HOSTILE.replace("\ud800", ""))
    journal.decline_task(digest("3"), "locator", HOSTILE.replace("\ud800", ""), 100)
    facts = json.loads(journal.meta()[KEY])
    journal.remember(KEY, json.dumps({**facts, "height": 5000, "at": 0, "troubles": {HOSTILE: HOSTILE}}))
    return journal


VERBS: list[list[object]] = [
    ["status"],
    ["status", "--json"],
    ["tasks", "list"],
    ["tasks", "list", "--json"],
    ["tasks", "show", TASK.id.hex()],
    ["tasks", "show", digest("2").hex()],
    ["explain", TASK.id.hex()],
    ["explain", digest("2").hex()],
    ["explain", TASK.id.hex(), "--json"],
    ["policy"],
    ["earnings"],
    ["earnings", "--csv"],
    ["config", "show"],
    ["tasks", "retry", TASK.id.hex()],
]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: " ".join(map(str, verb))[:24])
def test_verbs__when__everything_in_the_journal_is_hostile__then__shown_as_text(
    place: Place, spoiled: Journal, verb: list[object]
) -> None:
    said = inside(place, *verb)
    assert not dangerous(said.out + said.err)
    assert "Traceback" not in said.err
    assert said.out or said.err
    if verb == ["status"]:
        assert "[/x][bold red]HEALTHY[/] :smile:" in said.out.replace("\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", HOSTILE],
        ["tasks", "show", HOSTILE],
        ["task", "post", HOSTILE, "--service", "00" * 32, "--payment", "1 ERG"],
        ["task", "post", "x", "--service", HOSTILE, "--payment", HOSTILE],
        ["task", "fetch", HOSTILE, "--out", "x"],
        ["task", "verify", HOSTILE, "--output", "x"],
        ["bond", "open", "--amount", HOSTILE],
        ["backup", HOSTILE.replace("\x00", "")],
        ["reputation", "explain", HOSTILE],
        [HOSTILE],
        ["config", "check", HOSTILE],
        ["demo", "--input", HOSTILE.replace("\x00", "")],
        ["demo", "--service", HOSTILE],
        ["contracts", "show", HOSTILE],
    ],
    ids=lambda words: " ".join(words)[:14],
)
def test_verbs__when__called_with_hostile_words__then__one_plain_answer(arguments: list[str]) -> None:
    said = within(*arguments)
    assert said.code not in (0, 1)
    assert not dangerous(said.out + said.err)
    assert "Traceback" not in said.err


def test_verbs__when__the_terminal_is_latin_1_and_a_name_no_utf_8__then__replaced_and_no_traceback(
    place: Place, spoiled: Journal
) -> None:
    for encoding, verb in (("latin-1", ["status"]), ("ascii", ["tasks", "list"]), ("latin-1", ["policy"])):
        done = subprocess.run(
            [sys.executable, "-m", "aihd", *verb, "--config", str(place.config)],
            env={"PYTHONIOENCODING": encoding, "PATH": "/usr/bin"},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert b"Traceback" not in done.stderr
        assert done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "aihd", "task", "post", b"\xff\xfe.txt", "--service", "00" * 32, "--payment", "1 ERG"],
        env={"PYTHONIOENCODING": "utf-8", "PATH": "/usr/bin"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (64, False)
    assert at(place, "config", "check").code == 0


def test_code__when__it_shows_something__then__by_the_one_way_that_makes_text_plain() -> None:
    allowed = {"screen.py", "appkit_worker.py"}
    found = []
    for path in ROOT.rglob("*.py"):
        if path.name in allowed or "pb" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "Console"):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.func.id}")
            if isinstance(node, ast.Attribute) and node.attr == "from_markup":
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} from_markup")
    assert found == []
