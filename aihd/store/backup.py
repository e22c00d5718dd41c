"""A copy of the journal that can be put in its place, made while the daemon goes on writing.

Promise: the target appears whole and synced under its name or not at all, readable by its owner only, and it says of itself that it is a
copy and from when; a database that is put back therefore tells (`Journal.restored_from`) until the chain has been looked at.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aihd.errors import ConfigError, TemporaryError, UsageError
from aihd.store.schema import check

MADE_AT: Final = "backup_made_at"


def back_up(database: Path, target: Path) -> None:
    """Copy one committed state of the database to `target`.

    A database of an older schema is copied as it is. UsageError when the target exists or cannot be made, ConfigError when the database is
    not ours, TemporaryError when there is no room for the copy or the database is busy.
    """
    _must_be_free(target)
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # mode 0600
    except OSError as error:
        raise UsageError(f"{target} cannot be made ({error.strerror}): name a file in a folder we may write") from None
    copy = Path(name)
    try:
        _copy(database, copy)
        os.fsync(descriptor)
        _must_be_free(target)
        copy.rename(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise TemporaryError(f"{target} cannot be written: {error.strerror}") from None
    except sqlite3.Error as error:
        raise TemporaryError(f"{database} cannot be copied to {target} now: {error}") from None
    finally:
        os.close(descriptor)
        copy.unlink(missing_ok=True)


def _must_be_free(target: Path) -> None:
    if os.path.lexists(target):
        raise UsageError(f"{target} is there already: a backup overwrites nothing, name another file")


def _copy(database: Path, copy: Path) -> None:
    try:
        source = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=10)
    except sqlite3.OperationalError as error:
        raise ConfigError(f"ops.data_dir: {database} cannot be opened: {error}") from None
    with closing(source):
        try:
            check(source, str(database))
        except sqlite3.OperationalError:
            raise  # busy, or no room: not the file's fault
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"ops.data_dir: {database} is not a usable database: {error}") from None
        source.execute("VACUUM INTO ?", (str(copy.resolve()),))
    with closing(sqlite3.connect(copy, isolation_level=None)) as made:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        made.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (MADE_AT, now))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
