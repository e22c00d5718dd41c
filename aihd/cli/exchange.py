"""The exchange as a unit of its own: what clients reach, without a key and without a database."""

from __future__ import annotations

import time

import typer

from aihd.cli.common import ConfigOption, settings_of
from aihd.errors import TemporaryError, UsageError
from aihd.execution.exchange_process import called, ended
from aihd.execution.exchange_process import exchange as serve

PAUSE = 1.0  # seconds until the daemon is called again


def exchange(
    config: ConfigOption = None,
) -> None:
    """Serve clients for a daemon beside us, with exchange.separate = true. `aihd run` does it by itself without."""
    settings = settings_of(config)
    if not settings.exchange.separate:
        raise UsageError("exchange.separate is false: `aihd run` starts its exchange itself")
    path = settings.exchange_socket

    async def once() -> None:
        async with called(path) as (reader, writer):
            await serve(reader, writer)

    while True:
        code = ended(once())
        if code not in (0, int(TemporaryError.exit_code)):
            raise typer.Exit(code)
        time.sleep(PAUSE)
