"""Verbs of an operator: run, status, config, demo."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from aihd.cli.common import ConfigOption, JsonOption, settings_of
from aihd.config import config_example
from aihd.core.verdict import Verdict
from aihd.errors import Exit
from aihd.protocol.units import format_erg
from aihd.screen import console_of, say, styled

EXIT_CODES: Final = ", ".join(f"{code.value} {code.name.lower()}" for code in Exit)
config_app = typer.Typer(no_args_is_help=True, help="The configuration.")


def run(
    config: ConfigOption = None,
    accept_fork: Annotated[
        bool, typer.Option("--accept-fork", help="the chain that the node shows is right, though it left ours long ago")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what would be claimed and declined; sign and keep nothing")
    ] = False,
) -> None:
    """Run the daemon: find tasks, claim them, have nodo run them, collect the payment."""
    from aihd import app as daemon
    from aihd.ops.logs import setup_logging

    settings = settings_of(config)
    setup_logging(settings.ops.log_level, settings.ops.log_format)
    if dry_run:
        asyncio.run(daemon.rehearse(settings))
    else:
        asyncio.run(daemon.run(settings, os.environ, reload=lambda: settings_of(config), accept_fork=accept_fork))


def status(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="only the exit code")] = False,
) -> int:
    """How things stand. Works with the daemon down. Exit 0 when healthy, 1 when not."""
    from aihd.ops.lock import is_locked
    from aihd.services.report import status_on_disk

    settings = settings_of(config)
    if not settings.database.exists():
        if not quiet:
            say(f"aihd has not run here yet: there is no {settings.database}", file=sys.stderr)
        return int(Exit.UNHEALTHY)
    running = is_locked(settings.lock_file)
    document = status_on_disk(settings, running=running)
    if as_json:
        say(json.dumps(document, indent=2))
    elif not quiet:
        _show_status(document)
    return int(Exit.OK if document["verdict"] == Verdict.HEALTHY else Exit.UNHEALTHY)


_COLOURS: Final = {Verdict.HEALTHY: "green", Verdict.ISSUES: "yellow", Verdict.NOT_EARNING: "yellow"}


def _show_status(document: dict[str, Any]) -> None:
    console = console_of()
    colour = _COLOURS.get(document["verdict"], "red")
    console.print(styled((document["verdict"], f"bold {colour}"), f": {document['sentence']}"), highlight=False)
    service, wallet = document["service"], document["wallet"]
    running = "running" if service["running"] else "not running"
    market = service["market"][:16] or "none yet"
    console.print(styled("\n", ("Service", "bold"), f"  {running}, height {service['height']}, market {market}"))
    if "address" in wallet:
        console.print(styled(("Wallet", "bold"), f"   {wallet['address']}"))
        parts = ((name, wallet[name]) for name in ("confirmed", "reserved", "owed", "bond", "committed"))
        console.print(
            "         "
            + ", ".join(f"{name} {format_erg(value)}" for name, value in parts)
            + f", score {wallet['score']}"
        )
    for share in document["held"]:
        text = f"held {share['text']} until clients' marks are in, height {share['until']} at the latest"
        console.print(f"         {text}", markup=False, highlight=False)
    tasks = document["tasks"]
    states = ", ".join(f"{count} {state}" for state, count in tasks["states"].items()) or "none yet"
    console.print(styled(("Tasks", "bold"), f"    {states}"))
    for code, decline in tasks["declined"].items():
        console.print(
            f"         declined {decline['count']} for {code}: {decline['last']}", markup=False, highlight=False
        )
    for code, over in tasks["waiting"].items():
        console.print(
            f"         passing over {over['count']} for {code}: {over['last']}", markup=False, highlight=False
        )
    for issue in document["issues"]:
        console.print(styled(("Issue", "bold"), f"    {issue['reason']}"), highlight=False)
        if issue["command"]:
            console.print(styled(f"         what to do: {issue['command']}"), highlight=False)


def demo(
    input_path: Annotated[Path | None, typer.Option("--input", help="the file to run on; default a small text")] = None,
    service: Annotated[str, typer.Option(help="text-digest or word-count")] = "text-digest",
    asset: Annotated[
        str | None, typer.Option(help="pay in a token of this name, which the chain issues; default ERG")
    ] = None,
    sources: Annotated[
        str, typer.Option(help="who lists boxes: node, explorer (beside a plain node), or both")
    ] = "both",
) -> None:
    """See one task being posted, claimed, run, paid and rated on an embedded chain and gateway."""
    from aihd.demo.show import demo as play_demo
    from aihd.ops.logs import setup_logging

    setup_logging("error", "console")
    asyncio.run(play_demo(console_of(), input_path, service, asset or None, sources))


@config_app.command("show")
def config_show(
    config: ConfigOption = None,
    default: Annotated[bool, typer.Option("--default", help="the example file, with every key explained")] = False,
) -> None:
    """The settings in force."""
    say(config_example() if default else settings_of(config).describe(), end="")


@config_app.command("check")
def config_check(config: ConfigOption = None) -> None:
    """Read the configuration; say what is wrong with it, or nothing."""
    settings_of(config)
    say("the configuration is sound")
