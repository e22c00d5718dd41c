"""The tables of aihd's own database, and the way from an older one to this one.

`application_id` says that a file is ours, `user_version` which migration it has seen. A newer file than the program is refused.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from aihd.errors import ConfigError

APPLICATION_ID: Final = 0x41494844  # "AIHD"

_FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE tasks (
    id BLOB PRIMARY KEY,
    service_hash BLOB NOT NULL,
    input_commitment BLOB NOT NULL,
    payment INTEGER NOT NULL,
    client BLOB NOT NULL,
    claim_deadline INTEGER NOT NULL,
    exec_window INTEGER NOT NULL,
    locator TEXT NOT NULL,
    "where" TEXT NOT NULL,
    stage TEXT NOT NULL,
    since INTEGER,
    final INTEGER NOT NULL,
    claim_height INTEGER,
    claim_block BLOB,
    exec_deadline INTEGER,
    commit_deadline INTEGER,
    reveal_deadline INTEGER,
    may_reveal INTEGER NOT NULL,
    instance TEXT,
    output_hash BLOB,
    receipt_cid BLOB,
    params_hash BLOB,
    mark INTEGER,
    salt BLOB,
    client_mark INTEGER NOT NULL,
    bridged INTEGER NOT NULL,
    note TEXT NOT NULL
) STRICT;
CREATE INDEX tasks_open ON tasks (final) WHERE final = 0;

-- What happened, in order; never changed.
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY,
    at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    task_id BLOB,
    event TEXT NOT NULL,
    data TEXT NOT NULL
) STRICT;

-- Every transaction we signed, committed before it is first sent. One live transaction for an intent.
CREATE TABLE transactions (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    intent TEXT NOT NULL,
    kind TEXT NOT NULL,
    task_id BLOB,
    body BLOB NOT NULL,
    fee INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'mined', 'final', 'dropped')),
    height INTEGER,
    sent INTEGER NOT NULL DEFAULT 0,
    at INTEGER NOT NULL DEFAULT (unixepoch()),
    note TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX transactions_intent ON transactions (intent) WHERE status <> 'dropped';
CREATE INDEX transactions_live ON transactions (status) WHERE status IN ('pending', 'mined');

-- What a client must not forget about a task it posted: the salt of its input, its mark and the salt of that.
CREATE TABLE posts (id BLOB PRIMARY KEY, data TEXT NOT NULL) STRICT;

CREATE TABLE declines (code TEXT PRIMARY KEY, count INTEGER NOT NULL, last TEXT NOT NULL) STRICT;
"""

# A transaction may be replaced by another one for the same intent; headers are kept; and every task gets an event with its whole row,
# from which `aihd.store.fold` begins: the events of schema 1 left out some fields.
_SECOND = """
CREATE TABLE headers (height INTEGER PRIMARY KEY, id BLOB NOT NULL, parent BLOB NOT NULL) STRICT;

CREATE TABLE replaceable (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    intent TEXT NOT NULL,
    kind TEXT NOT NULL,
    task_id BLOB,
    body BLOB NOT NULL,
    fee INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'mined', 'final', 'dropped', 'replaced')),
    height INTEGER,
    sent INTEGER NOT NULL DEFAULT 0,
    at INTEGER NOT NULL DEFAULT (unixepoch()),
    note TEXT NOT NULL DEFAULT '',
    replaces TEXT
) STRICT;
INSERT INTO replaceable (seq, id, intent, kind, task_id, body, fee, spent, status, height, sent, at, note)
    SELECT seq, id, intent, kind, task_id, body, fee, spent, status, height, sent, at, note FROM transactions;
DROP TABLE transactions;
ALTER TABLE replaceable RENAME TO transactions;
CREATE UNIQUE INDEX transactions_intent ON transactions (intent) WHERE status NOT IN ('dropped', 'replaced');
CREATE INDEX transactions_live ON transactions (status) WHERE status IN ('pending', 'mined');
CREATE INDEX transactions_task ON transactions (task_id);
CREATE INDEX journal_task ON journal (task_id);

INSERT INTO journal (task_id, event, data) SELECT id, 'snapshot', json_object(
    'id', lower(hex(id)),
    'service_hash', lower(hex(service_hash)),
    'input_commitment', lower(hex(input_commitment)),
    'payment', payment,
    'client', lower(hex(client)),
    'claim_deadline', claim_deadline,
    'exec_window', exec_window,
    'locator', locator,
    'where', "where",
    'stage', stage,
    'since', since,
    'final', final,
    'claim_height', claim_height,
    'claim_block', iif(claim_block IS NULL, NULL, lower(hex(claim_block))),
    'exec_deadline', exec_deadline,
    'commit_deadline', commit_deadline,
    'reveal_deadline', reveal_deadline,
    'may_reveal', may_reveal,
    'instance', instance,
    'output_hash', iif(output_hash IS NULL, NULL, lower(hex(output_hash))),
    'receipt_cid', iif(receipt_cid IS NULL, NULL, lower(hex(receipt_cid))),
    'params_hash', iif(params_hash IS NULL, NULL, lower(hex(params_hash))),
    'mark', mark,
    'salt', iif(salt IS NULL, NULL, lower(hex(salt))),
    'client_mark', client_mark,
    'bridged', bridged,
    'note', note
) FROM tasks ORDER BY rowid;
"""

# The market's history (aihd.store.history): every bond, and every task that was claimed and how it ended.
_THIRD = """
-- Blocks in which something below happened. What a reorg takes back is everything above a height.
CREATE TABLE history_blocks (height INTEGER PRIMARY KEY, block BLOB NOT NULL) STRICT;

-- Minter and bonds: each box with the heights at which it came and went.
CREATE TABLE history_boxes (id BLOB PRIMARY KEY, height INTEGER NOT NULL, spent INTEGER) STRICT, WITHOUT ROWID;
CREATE INDEX history_heads ON history_boxes (id) WHERE spent IS NULL;

CREATE TABLE history (
    task BLOB PRIMARY KEY,
    claimed INTEGER NOT NULL,
    service BLOB NOT NULL,
    client BLOB NOT NULL,
    node BLOB NOT NULL,
    value INTEGER NOT NULL,
    ended INTEGER,
    outcome TEXT,
    client_mark INTEGER NOT NULL DEFAULT 0,
    node_mark INTEGER NOT NULL DEFAULT 0,
    client_committed INTEGER NOT NULL DEFAULT 0,
    node_committed INTEGER NOT NULL DEFAULT 0,
    seq INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX history_seq ON history (seq) WHERE seq IS NOT NULL;

-- Whose money a key began with: a key of 33 bytes, or the hash of a script.
CREATE TABLE funding (key BLOB PRIMARY KEY, source BLOB NOT NULL, height INTEGER NOT NULL, public INTEGER NOT NULL)
    STRICT, WITHOUT ROWID;
"""

# Protocol version 2: what a task is worth beside what it pays, in which token, how much is held back, and which claim's reserve is its own.
_FOURTH = """
ALTER TABLE tasks ADD COLUMN worth INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN asset BLOB;
ALTER TABLE tasks ADD COLUMN holdback_bps INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN claim_tx BLOB;
ALTER TABLE tasks ADD COLUMN release_height INTEGER;
ALTER TABLE tasks ADD COLUMN acknowledged INTEGER NOT NULL DEFAULT 0;
UPDATE tasks SET worth = payment;

-- Why each task was not taken, once and for good; `until` is its claim deadline.
CREATE TABLE declined (task BLOB PRIMARY KEY, code TEXT NOT NULL, sentence TEXT NOT NULL, until INTEGER NOT NULL) STRICT;
"""

# Protocol version 2 in the market's history. A market of version 1 has none of it, so that what was read is read again from the new one.
_FIFTH = """
DROP TABLE history;
CREATE TABLE history (
    task BLOB PRIMARY KEY,
    claimed INTEGER NOT NULL,
    service BLOB NOT NULL,
    client BLOB NOT NULL,
    node BLOB NOT NULL,
    worth INTEGER NOT NULL,
    payment INTEGER NOT NULL,
    asset BLOB,
    ended INTEGER,
    outcome TEXT,
    held INTEGER NOT NULL DEFAULT 0,
    client_mark INTEGER NOT NULL DEFAULT 0,
    node_mark INTEGER NOT NULL DEFAULT 0,
    client_committed INTEGER NOT NULL DEFAULT 0,
    node_committed INTEGER NOT NULL DEFAULT 0,
    seq INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX history_seq ON history (seq) WHERE seq IS NOT NULL;
DELETE FROM history_boxes;
DELETE FROM history_blocks;
DELETE FROM funding;
DELETE FROM meta WHERE key = 'history';
"""

# Who ordered a transaction: a person by a verb, or the daemon by itself, whose spending is limited by blocks (`tip`: the height at which it
# was signed). And on which of our unconfirmed ones it was built.
_SIXTH = """
ALTER TABLE transactions ADD COLUMN origin TEXT NOT NULL DEFAULT 'daemon' CHECK (origin IN ('daemon', 'operator'));
ALTER TABLE transactions ADD COLUMN tip INTEGER NOT NULL DEFAULT 0;
ALTER TABLE transactions ADD COLUMN parents TEXT NOT NULL DEFAULT '';
UPDATE transactions SET origin = 'operator' WHERE kind IN ('deploy', 'bond', 'manage', 'withdraw', 'send');
UPDATE transactions SET tip = COALESCE(height - 1, (SELECT max(height) FROM headers), 0);
"""

MIGRATIONS: Final = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH, _SIXTH)


def check(connection: sqlite3.Connection, where: str) -> int:
    """The number of migrations a database has seen; ConfigError when it belongs to something else or to a newer aihd."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    used = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and used:
        raise ConfigError(f"ops.data_dir: {where} is a database of another program")
    if version > len(MIGRATIONS):
        raise ConfigError(
            f"ops.data_dir: {where} was written by a newer aihd (schema {version}, this one knows {len(MIGRATIONS)})"
        )
    return int(version)


def check_current(connection: sqlite3.Connection, where: str) -> None:
    """For whoever only reads: ConfigError unless the database is ours and up to date."""
    version = check(connection, where)
    if version < len(MIGRATIONS):
        raise ConfigError(
            f"ops.data_dir: {where} has schema {version}, this aihd reads {len(MIGRATIONS)}: "
            "it is brought up to date when `aihd run` starts"
        )


def migrate(connection: sqlite3.Connection, where: str) -> None:
    """Bring the database up to date, each migration in one transaction; ConfigError as `check`."""
    version = check(connection, where)
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {script}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number}; COMMIT;"
        )
