"""The `aihd` command: one module for each kind of user. What goes wrong ends in one clear line and a documented exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import stamina
import typer
from typer.exceptions import TyperException

from aihd.cli import admin, explain, operate
from aihd.cli.bond import bond_app
from aihd.cli.check import check
from aihd.cli.contracts import contracts_app
from aihd.cli.devnet import devnet_app
from aihd.cli.exchange import exchange
from aihd.cli.init import init
from aihd.cli.reputation import reputation_app
from aihd.cli.task import task_app
from aihd.cli.tasks import tasks_app
from aihd.cli.wallet import wallet_app
from aihd.errors import AihdError, Exit
from aihd.execution.files import DISK
from aihd.screen import ready_streams, say

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Sidecar of a Celaut node for the AIH task market on Ergo.",
    epilog=f"Exit codes: {operate.EXIT_CODES}.",
)
app.command()(init)
app.command()(check)
app.command()(operate.run)
app.command()(exchange)
app.command()(operate.status)
app.command()(admin.pause)
app.command()(admin.resume)
app.command()(admin.drain)
app.command()(admin.backup)
app.command()(explain.explain)
app.command()(explain.earnings)
app.command()(explain.policy)
app.command()(admin.version)
app.command()(operate.demo)
app.add_typer(tasks_app, name="tasks")
app.add_typer(operate.config_app, name="config")
app.add_typer(wallet_app, name="wallet")
app.add_typer(bond_app, name="bond")
app.add_typer(task_app, name="task")
app.add_typer(reputation_app, name="reputation")
app.add_typer(contracts_app, name="contracts")
app.add_typer(devnet_app, name="devnet")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, this process's own unless given; every error of ours becomes one line on stderr and its exit code."""
    # A retry is no news: what a server does is counted where it is asked, and shown in the status.
    stamina.instrumentation.set_on_retry_hooks([])
    ready_streams()
    try:
        code = app(args=arguments, standalone_mode=False)
    except AihdError as error:
        _fail(str(error), error.exit_code)
    except TyperException as error:
        message = error.format_message()
        if "\n" in message or not message:  # a verb without its arguments is answered with its help
            say(message)
            sys.exit(Exit.USAGE)
        _fail(f"{message} (see aihd --help)", Exit.USAGE)
    except BrokenPipeError:
        sys.exit(Exit.OK)  # who reads has read enough
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}", Exit.TEMPORARY if error.errno in DISK else Exit.DEPENDENCY)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else Exit.OK)


def _fail(message: str, code: int) -> NoReturn:
    say(f"aihd: {message}", file=sys.stderr)
    sys.exit(int(code))
