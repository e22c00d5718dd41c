"""Verbs of an operator about the daemon as a whole: backup, pause, resume, drain, version."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated, Final

import typer

from aihd.cli.common import ConfigOption, settings_of
from aihd.config import Settings
from aihd.config_values import SECONDS_PER_BLOCK
from aihd.core.task import Where
from aihd.core.verdict import parting
from aihd.errors import ConfigError, TemporaryError
from aihd.ops.lock import is_locked
from aihd.screen import say
from aihd.services.report import last_height
from aihd.store.backup import back_up
from aihd.store.journal import PAUSED, Journal

LOOK: Final = 0.1  # seconds between two looks whether the daemon has left


def journal_of(settings: Settings, *, guest: bool = False) -> Journal:
    """The journal beside the daemon, to read, or to write as its guest; ConfigError where aihd never ran."""
    if not settings.database.exists():
        raise ConfigError(f"aihd has not run here yet: there is no {settings.database}")
    return Journal(settings.database, read_only=not guest, guest=guest)


def backup(
    file: Annotated[Path, typer.Argument(help="the file to write; never overwritten")], config: ConfigOption = None
) -> None:
    """Copy the database, while the daemon runs or not. The copy holds what must stay secret until tasks are rated: keep it safe.

    To restore: stop the daemon, put the copy in place of aihd.sqlite, remove aihd.sqlite-wal and aihd.sqlite-shm, start. The key is not in
    the database: back up the wallet's file too.
    """
    settings = settings_of(config)
    if not settings.database.exists():
        raise ConfigError(f"aihd has not run here yet: there is no {settings.database}")
    back_up(settings.database, file.absolute())
    say(f"{file} holds the database as of now ({file.stat().st_size} bytes)")


def pause(config: ConfigOption = None) -> None:
    """Take no new task; what was claimed is brought to its end. Holds over restarts, until `aihd resume`."""
    with journal_of(settings_of(config), guest=True) as journal:
        since = journal.paused()
        if since is None:
            journal.remember(PAUSED, datetime.now(UTC).isoformat(timespec="seconds"))
        say("paused: no new task is taken" if since is None else f"is paused already, since {since}")


def resume(config: ConfigOption = None) -> None:
    """Take new tasks again."""
    with journal_of(settings_of(config), guest=True) as journal:
        since = journal.paused()
        journal.forget(PAUSED)
        say("was not paused" if since is None else "new tasks are taken again")


def drain(
    config: ConfigOption = None,
    patience: Annotated[
        float | None, typer.Option(help="seconds to wait for it to leave; default: as long as it takes")
    ] = None,
) -> None:
    """Stop the daemon gently: it takes nothing new, brings every claimed task to its end, and leaves. Waits until it has left.

    Ends with 75, and says what is at risk until when, if it left with a claimed task that is neither released nor failed.
    """
    from aihd.services.drain import UNLIMITED

    settings = settings_of(config)
    lock = settings.lock_file
    if not is_locked(lock):
        say("aihd is not running")
        return
    pid = _holder(lock)
    with journal_of(settings, guest=True) as journal:
        journal.remember(UNLIMITED, datetime.now(UTC).isoformat(timespec="seconds"))
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError:
        raise ConfigError(
            f"process {pid} belongs to another user: run this as the user of the daemon, or as root"
        ) from None
    say(f"process {pid} was told to drain", flush=True)
    end = None if patience is None else time.monotonic() + patience
    while is_locked(lock):
        if end is not None and time.monotonic() > end:
            raise TemporaryError(f"process {pid} still drains after {patience:g} s: it ends what runs; wait longer")
        time.sleep(LOOK)
    with journal_of(settings) as journal:
        owing = [task for task in journal.open_tasks() if task.where is Where.CLAIMED]
        height = last_height(journal)
    if owing:
        raise TemporaryError(
            f"it has left with {parting(owing, height or 0, SECONDS_PER_BLOCK[settings.chain.network])}"
        )
    say("it has left, and owes nothing")


def _holder(lock: Path) -> int:
    """The process that holds the lock; ConfigError unless it can be seen to have the file open.

    The number in the file may be that of another machine's or container's process: nobody else is ever signalled.
    """
    text = lock.read_text(errors="replace").strip()
    if text.isdecimal() and _has_open(int(text), lock):
        return int(text)
    raise ConfigError(f"{lock} is held, but not by a process seen here ({text or 'none'}): drain where the daemon runs")


def _has_open(pid: int, file: Path) -> bool:
    try:
        return any(entry.samefile(file) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.exists())
    except PermissionError:
        return True  # another user's process: the signal will be refused and say so
    except OSError:
        return False


def version() -> None:
    """The version of aihd."""
    say(f"aihd {installed('aihd')}")
