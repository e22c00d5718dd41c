"""The `aihd` command: one function for each verb. What goes wrong ends in one clear line and a documented exit code."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import click
import typer
from rich.console import Console
from rich.table import Table

from aihd.config import Settings, config_example, load_settings
from aihd.core.task import Limits
from aihd.errors import AihdError, Exit
from aihd.protocol.units import format_erg

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Sidecar of a Celaut node for the AIH task market on Ergo.",
)
config_app = typer.Typer(no_args_is_help=True, help="The configuration.")
contracts_app = typer.Typer(no_args_is_help=True, help="The guards of the market.")
app.add_typer(config_app, name="config")
app.add_typer(contracts_app, name="contracts")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file; default $AIHD_CONFIG, then /etc/aihd/aihd.toml")
]
JsonOption = Annotated[bool, typer.Option("--json", help="as JSON")]
EXIT_CODES: Final = ", ".join(f"{code.value} {code.name.lower()}" for code in Exit)


def main() -> None:
    """Run the command line; every error of ours becomes one line on stderr and its exit code."""
    try:
        code = app(standalone_mode=False)
    except AihdError as error:
        _fail(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        sys.exit(Exit.USAGE)
    except click.UsageError as error:
        _fail(f"{error.format_message()} (see aihd --help)", Exit.USAGE)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        _fail(error.format_message(), Exit.USAGE)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    print(f"aihd: {message}", file=sys.stderr)
    sys.exit(int(code))


def _settings(config: Path | None, **overrides: Any) -> Settings:
    return load_settings(config.resolve() if config else None, os.environ, overrides)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 140)


@app.command(epilog=f"Exit codes: {EXIT_CODES}.")
def run(config: ConfigOption = None) -> None:
    """Run the daemon: find tasks, claim them, have nodo run them, collect the payment."""
    from aihd import app as daemon
    from aihd.ops.logs import setup_logging

    settings = _settings(config)
    setup_logging(settings.ops.log_level, settings.ops.log_format)
    asyncio.run(daemon.run(settings, os.environ))


@app.command()
def status(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="only the exit code")] = False,
) -> int:
    """How things stand. Works with the daemon down. Exit 0 when healthy, 1 when not."""
    from aihd.ops.lock import is_locked
    from aihd.services.report import status_on_disk

    settings = _settings(config)
    limits = Limits(
        settings.chain.final_depth, settings.policy.claim_margin_blocks, settings.policy.release_margin_blocks
    )
    if not settings.database.exists():
        if not quiet:
            print(f"aihd has not run here yet: there is no {settings.database}", file=sys.stderr)
        return int(Exit.UNHEALTHY)
    running = is_locked(settings.lock_file)
    document = status_on_disk(settings.database, limits, running=running)
    if as_json:
        print(json.dumps(document, indent=2))
    elif not quiet:
        _show_status(document)
    return int(Exit.OK if document["verdict"] == "Healthy" else Exit.UNHEALTHY)


def _show_status(document: dict[str, Any]) -> None:
    console = _console()
    colour = {"Healthy": "green", "Issues detected": "yellow"}.get(document["verdict"], "red")
    console.print(f"[bold {colour}]{document['verdict']}[/]: {document['sentence']}")
    service, wallet = document["service"], document["wallet"]
    running = "running" if service["running"] else "not running"
    console.print(
        f"\n[bold]Service[/]  {running}, height {service['height']}, market {service['market'][:16] or 'none yet'}"
    )
    if "address" in wallet:
        console.print(f"[bold]Wallet[/]   {wallet['address']}")
        parts = ((name, wallet[name]) for name in ("confirmed", "reserved", "owed", "bond", "committed"))
        console.print(
            "         "
            + ", ".join(f"{name} {format_erg(value)}" for name, value in parts)
            + f", score {wallet['score']}"
        )
    tasks = document["tasks"]
    states = ", ".join(f"{count} {state}" for state, count in tasks["states"].items()) or "none yet"
    console.print(f"[bold]Tasks[/]    {states}")
    for code, decline in tasks["declined"].items():
        console.print(f"         declined {decline['count']} for {code}: {decline['last']}", highlight=False)
    for issue in document["issues"]:
        console.print(f"[bold]Issue[/]    {issue['what']}: {issue['reason']}", highlight=False)


@app.command()
def demo(
    input_path: Annotated[Path | None, typer.Option("--input", help="the file to run on; default a small text")] = None,
    service: Annotated[str, typer.Option(help="text-digest or word-count")] = "text-digest",
) -> None:
    """See one task being posted, claimed, run, paid and rated on an embedded chain and gateway."""
    from aihd.demo.show import demo as play_demo
    from aihd.ops.logs import setup_logging

    setup_logging("error", "console")
    asyncio.run(play_demo(_console(), input_path, service))


@config_app.command("show")
def config_show(
    config: ConfigOption = None,
    default: Annotated[bool, typer.Option("--default", help="the example file, with every key explained")] = False,
) -> None:
    """The settings in force."""
    print(config_example() if default else _settings(config).describe(), end="")


@config_app.command("check")
def config_check(config: ConfigOption = None) -> None:
    """Read the configuration; say what is wrong with it, or nothing."""
    _settings(config)
    print("the configuration is sound")


@contracts_app.command("show")
def contracts_show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Every address, tree and hash of the deployment."""
    from aihd.chain.contracts import describe, load_deployment
    from aihd.config import required

    deployment, _ = load_deployment(required(_settings(config).chain.deployment, "chain.deployment"))
    document = describe(deployment)
    if as_json:
        print(json.dumps(document, indent=2))
        return
    console = _console()
    console.print(f"Market {document['id']} on {document['network']}, bond token {document['bond_token']}")
    table = Table("guard", "bytes", "script hash", "template sha-256 (explorer)", "address")
    for guard in document["guards"]:
        hashes = (guard["blake2b256"][:16] + "…", guard["template_sha256"][:16] + "…")
        table.add_row(guard["guard"], str(len(guard["tree"]) // 2), *hashes, guard["address"][:24] + "…")
    console.print(table)


@contracts_app.command("verify")
def contracts_verify() -> int:
    """Compile every guard with the reference compiler and compare with the committed templates, byte for byte."""
    from aihd.chain.appkit import Appkit
    from aihd.chain.contracts import differences
    from aihd.protocol.deployment import Guard

    with Appkit() as appkit:
        found = {difference.guard for difference in differences(appkit)}
    for guard in Guard:
        print(f"{guard:8} {'DIFFERS from its source' if guard in found else 'is what its source compiles to'}")
    return int(Exit.UNHEALTHY if found else Exit.OK)


@contracts_app.command("compile", hidden=True)
def contracts_compile() -> None:
    """Compile every guard into ergoscript/compiled (for those who change a guard)."""
    from aihd.chain.appkit import Appkit
    from aihd.chain.contracts import write_templates
    from aihd.resources import resource

    with Appkit() as appkit:
        write_templates(appkit, resource("ergoscript", "compiled"))
