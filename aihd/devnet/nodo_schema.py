"""The tables of nodo's database in each version that is known, as nodo itself makes them: no pragmas, no extra rules.

Of the older versions only the tables are here that concern peers, clients, contracts and instances.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Final

DATABASE = "database.sqlite"


class NodoVersion(StrEnum):
    """The four nodos that are told apart by their tables."""

    V24 = "V24"  # June 2024: peers have no reputation
    VFEB = "VFEB"  # February 2026: balances in gas; peers have a reputation, nothing says where it came from
    VJUL = "VJUL"  # July 2026: balances in MU; reputation as before
    VNEW = "VNEW"  # after 2026-07-31: services have a reputation too, and every change is an event


# Clients and instances are kept in memory: `clients` and `containers` stay empty.
_V24 = """
CREATE TABLE peer (id TEXT PRIMARY KEY, token TEXT, metadata BLOB, app_protocol BLOB);
CREATE TABLE clients (id TEXT PRIMARY KEY);
CREATE TABLE containers (id TEXT PRIMARY KEY);
CREATE TABLE slot (
    id INTEGER PRIMARY KEY AUTOINCREMENT, internal_port INTEGER, transport_protocol BLOB, peer_id TEXT,
    FOREIGN KEY (peer_id) REFERENCES peer (id)
);
CREATE TABLE uri (
    id INTEGER PRIMARY KEY AUTOINCREMENT, ip TEXT, port INTEGER, slot_id INTEGER,
    FOREIGN KEY (slot_id) REFERENCES slot (id)
);
CREATE TABLE contract (hash TEXT PRIMARY KEY, hash_type TEXT, contract BLOB);
CREATE TABLE ledger (id TEXT PRIMARY KEY, private_key TEXT NULL);
CREATE TABLE ledger_provider (
    id INTEGER PRIMARY KEY AUTOINCREMENT, uri TEXT, ledger_id TEXT, FOREIGN KEY (ledger_id) REFERENCES peer (id)
);
CREATE TABLE contract_instance (
    id INTEGER PRIMARY KEY AUTOINCREMENT, address TEXT, ledger_id TEXT, contract_hash TEXT, peer_id TEXT NULL,
    FOREIGN KEY (ledger_id) REFERENCES ledger (id), FOREIGN KEY (contract_hash) REFERENCES contract (hash),
    FOREIGN KEY (peer_id) REFERENCES peer (id)
);
"""

# What the two versions of 2026 before events share; names of money differ.
_COMMON = """
CREATE TABLE contract (hash TEXT PRIMARY KEY, content BLOB);
CREATE TABLE ledger (hash TEXT PRIMARY KEY, content BLOB, private_key TEXT NULL, double_spending_retry_time DATETIME);
CREATE TABLE delegated_instances (
    token_delegation TEXT PRIMARY KEY, id TEXT, peer_id TEXT, father_id TEXT, serialized_instance TEXT, service_id TEXT
);
CREATE TABLE deposit_tokens (
    id TEXT PRIMARY KEY, client_id TEXT, status TEXT CHECK (status IN ('pending', 'payed', 'rejected')) NOT NULL,
    FOREIGN KEY (client_id) REFERENCES clients (id)
);
CREATE TABLE energy_consumption (
    id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp DATETIME, cpu_percent REAL, memory_usage REAL,
    power_consumption REAL, cost REAL
);
CREATE TABLE monitoring_config (
    id INTEGER PRIMARY KEY AUTOINCREMENT, max_power_limit REAL, cost_per_kwh REAL, last_updated DATETIME
);
"""

_VFEB = f"""
CREATE TABLE peer (
    id TEXT PRIMARY KEY, protocol_stack BLOB, client_id TEXT, gas TEXT, gas_last_update DATETIME,
    reputation_proof_id TEXT, reputation_score INTEGER, reputation_index INTEGER, last_index_on_ledger INTEGER
);
CREATE TABLE clients (id TEXT PRIMARY KEY, gas TEXT, last_usage FLOAT NULL);
CREATE TABLE slot (
    id INTEGER PRIMARY KEY AUTOINCREMENT, internal_port INTEGER, transport_protocol BLOB, peer_id TEXT,
    FOREIGN KEY (peer_id) REFERENCES peer (id)
);
CREATE TABLE uri (
    id INTEGER PRIMARY KEY AUTOINCREMENT, ip TEXT, port INTEGER, slot_id INTEGER,
    FOREIGN KEY (slot_id) REFERENCES slot (id)
);
CREATE TABLE contract_instance (
    id INTEGER PRIMARY KEY AUTOINCREMENT, address TEXT, ledger_hash TEXT, contract_hash TEXT, peer_id TEXT NOT NULL,
    gas_price TEXT, UNIQUE (address, ledger_hash, contract_hash, peer_id)
);
CREATE TABLE local_instances (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, ip TEXT, father_id TEXT, gas TEXT, mem_limit INTEGER,
    disk_space INTEGER, serialized_instance TEXT, service_id TEXT, virtualizer TEXT
);
CREATE TABLE tunnels (id TEXT PRIMARY KEY, uri TEXT, service TEXT, live BOOLEAN);
{_COMMON}"""

_VJUL = f"""
CREATE TABLE peer (
    id TEXT PRIMARY KEY, advertisement BLOB, remote_client_id TEXT, balance_mu TEXT, balance_last_update DATETIME,
    reputation_proof_id TEXT, reputation_score INTEGER, reputation_index INTEGER, last_index_on_ledger INTEGER,
    last_ts INTEGER
);
CREATE TABLE clients (
    id TEXT PRIMARY KEY, balance_mu TEXT, last_usage FLOAT NULL, unmetered INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE uri (
    id INTEGER PRIMARY KEY AUTOINCREMENT, peer_id TEXT, ip TEXT, port INTEGER, expiry_unix_timestamp INTEGER,
    transport TEXT, protocol_stack BLOB, FOREIGN KEY (peer_id) REFERENCES peer (id)
);
CREATE UNIQUE INDEX idx_uri_peer_ip_port ON uri (peer_id, ip, port);
CREATE TABLE contract_instance (
    id INTEGER PRIMARY KEY AUTOINCREMENT, address TEXT, ledger_hash TEXT, contract_hash TEXT, peer_id TEXT NOT NULL,
    mu_per_unit TEXT, UNIQUE (address, ledger_hash, contract_hash, peer_id)
);
CREATE TABLE local_instances (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, ip TEXT, father_id TEXT, balance_mu TEXT, mem_limit INTEGER,
    disk_space INTEGER, cpu_period INTEGER, cpu_quota INTEGER, serialized_instance TEXT, service_id TEXT,
    virtualizer TEXT, envs TEXT
);
CREATE TABLE forced_execution_peer (
    token TEXT PRIMARY KEY, peer_id TEXT NOT NULL, created_at DATETIME DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE instance_consumption (
    instance_id TEXT PRIMARY KEY, mu_per_second REAL, sample_count INTEGER, last_refresh DATETIME
);
{_COMMON}"""

_VNEW = """
CREATE TABLE peer (
    id TEXT PRIMARY KEY, advertisement BLOB, remote_client_id TEXT, local_client_id TEXT, balance_mu TEXT,
    balance_last_update DATETIME, reputation_score INTEGER, reputation_index INTEGER, last_index_on_ledger INTEGER,
    last_ts INTEGER
);
CREATE TABLE clients (
    id TEXT PRIMARY KEY, balance_mu TEXT, last_usage FLOAT NULL, unmetered INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE uri (
    id INTEGER PRIMARY KEY AUTOINCREMENT, peer_id TEXT, ip TEXT, port INTEGER, expiry_unix_timestamp INTEGER,
    transport TEXT, protocol_stack BLOB, FOREIGN KEY (peer_id) REFERENCES peer (id)
);
CREATE UNIQUE INDEX idx_uri_peer_ip_port ON uri (peer_id, ip, port);
CREATE TABLE ledger (tag TEXT PRIMARY KEY, double_spending_retry_time DATETIME);
CREATE TABLE contract_instance (
    id INTEGER PRIMARY KEY AUTOINCREMENT, address TEXT, ledger TEXT NOT NULL, contract_hash TEXT,
    token_id TEXT NOT NULL DEFAULT '', peer_id TEXT NOT NULL, mu_per_unit TEXT,
    UNIQUE (address, ledger, contract_hash, token_id, peer_id)
);
CREATE TABLE local_instances (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, ip TEXT, father_id TEXT, balance_mu TEXT, mem_limit INTEGER,
    disk_space INTEGER, cpu_period INTEGER, cpu_quota INTEGER, serialized_instance TEXT, service_id TEXT,
    virtualizer TEXT, envs TEXT, arch TEXT, launched_at DATETIME
);
CREATE TABLE delegated_instances (
    token_delegation TEXT PRIMARY KEY, id TEXT, peer_id TEXT, father_id TEXT, serialized_instance TEXT,
    service_id TEXT, balance_mu TEXT, peer_balance_mu TEXT, launched_at DATETIME
);
CREATE TABLE deposit_tokens (
    id TEXT PRIMARY KEY, client_id TEXT, status TEXT CHECK (status IN ('pending', 'payed', 'rejected')) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP, FOREIGN KEY (client_id) REFERENCES clients (id)
);
CREATE TABLE energy_consumption (
    id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp DATETIME DEFAULT CURRENT_TIMESTAMP, energy_joules REAL, watts REAL,
    price_per_kwh REAL, currency TEXT, backend TEXT, is_floor INTEGER
);
CREATE TABLE instance_energy (
    instance_id TEXT PRIMARY KEY, watts REAL, share REAL, sample_count INTEGER, last_refresh DATETIME
);
CREATE TABLE forced_execution_peer (
    token TEXT PRIMARY KEY, peer_id TEXT NOT NULL, created_at DATETIME DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE instance_consumption (
    instance_id TEXT PRIMARY KEY, mu_per_second REAL, sample_count INTEGER, last_refresh DATETIME
);
CREATE TABLE tunnel_traffic (day TEXT PRIMARY KEY, bytes INTEGER NOT NULL DEFAULT 0);
CREATE TABLE demand_history (
    hour TEXT PRIMARY KEY, instances_held INTEGER DEFAULT 0, mu_charged TEXT DEFAULT '0', admissions INTEGER DEFAULT 0,
    refusals INTEGER DEFAULT 0, refused_closed INTEGER DEFAULT 0
);
CREATE TABLE payments (
    id INTEGER PRIMARY KEY AUTOINCREMENT, tx_id TEXT, direction TEXT CHECK (direction IN ('out', 'in')) NOT NULL,
    status TEXT CHECK (status IN ('communicated', 'unacknowledged', 'accepted', 'rejected')) NOT NULL, peer_id TEXT,
    client_id TEXT, deposit_token TEXT, ledger TEXT, contract_hash TEXT, token_id TEXT, address TEXT,
    amount_mu TEXT NOT NULL, purpose TEXT, created_at DATETIME DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX idx_payments_peer ON payments (peer_id);
CREATE INDEX idx_payments_client ON payments (client_id);
CREATE INDEX idx_payments_tx ON payments (tx_id);
CREATE TABLE reputation_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, subject_kind TEXT CHECK (subject_kind IN ('peer', 'service')) NOT NULL,
    subject_id TEXT NOT NULL, amount INTEGER NOT NULL, reason TEXT NOT NULL, score_after INTEGER,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX idx_reputation_events_subject ON reputation_events (subject_kind, subject_id, created_at);
CREATE TABLE service_reputation (
    service_id TEXT PRIMARY KEY, reputation_score INTEGER NOT NULL DEFAULT 0,
    reputation_index INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE donation_accrual (
    ledger TEXT, contract_hash TEXT, token_id TEXT, owed_native TEXT, updated_at DATETIME,
    PRIMARY KEY (ledger, contract_hash, token_id)
);
CREATE TABLE donation_payouts (
    ledger TEXT, contract_hash TEXT, token_id TEXT, address TEXT, paid_native TEXT, updated_at DATETIME,
    PRIMARY KEY (ledger, contract_hash, token_id, address)
);
CREATE TABLE donations (
    id INTEGER PRIMARY KEY AUTOINCREMENT, ledger TEXT NOT NULL, tx_id TEXT NOT NULL, to_address TEXT NOT NULL,
    from_address TEXT NOT NULL, peer_id TEXT, token_id TEXT, amount_native TEXT, tx_height INTEGER,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP, UNIQUE (ledger, tx_id, to_address, from_address, token_id)
);
CREATE INDEX idx_donations_peer ON donations (peer_id);
CREATE INDEX idx_donations_from ON donations (from_address);
CREATE TABLE donation_scan_state (
    ledger TEXT, address TEXT, last_scanned_height INTEGER, updated_at DATETIME, PRIMARY KEY (ledger, address)
);
CREATE TABLE onchain_opinions (
    ledger TEXT, subject_id TEXT, proof_id TEXT, verdict REAL, burned_nanoerg INTEGER DEFAULT 0,
    credibility REAL DEFAULT 0, updated_at DATETIME, PRIMARY KEY (ledger, subject_id, proof_id)
);
CREATE INDEX idx_onchain_opinions_subject ON onchain_opinions (subject_id);
CREATE TABLE peer_chat_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, peer_id TEXT, from_us INTEGER, body TEXT, ts INTEGER,
    received_at DATETIME DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX idx_peer_chat_messages_peer ON peer_chat_messages (peer_id);
"""


_SCHEMAS: Final[Mapping[NodoVersion, str]] = {
    NodoVersion.V24: _V24,
    NodoVersion.VFEB: _VFEB,
    NodoVersion.VJUL: _VJUL,
    NodoVersion.VNEW: _VNEW,
}


def create_database(storage: Path, version: NodoVersion = NodoVersion.VNEW) -> Path:
    """Make an empty database in nodo's storage folder, or leave the one that is there; its path."""
    path = storage / DATABASE
    if not path.exists():
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(f"BEGIN; {_SCHEMAS[version]} COMMIT;")
    return path


def add_paid_peer(path: Path, peer_id: str, address: str, tree: bytes) -> None:
    """Write down a peer that is paid at an Ergo address, whose tree is given. nodo keeps the tree's hex since July 2026."""
    with closing(sqlite3.connect(path, isolation_level=None)) as rows:
        names = {row[1] for row in rows.execute("PRAGMA table_info(contract_instance)")}
        ledger = next(name for name in ("ledger", "ledger_hash", "ledger_id") if name in names)
        kept = tree.hex() if "mu_per_unit" in names else address
        rows.execute("INSERT OR IGNORE INTO peer (id) VALUES (?)", (peer_id,))
        sql = f"INSERT INTO contract_instance (address, {ledger}, contract_hash, peer_id) VALUES (?, 'ergo', '', ?)"  # noqa: S608
        rows.execute(sql, (kept, peer_id))
