"""What is wrong with a nodo installation, and what would mend it: one finding for each thing that aihd needs of it.

Looks only. The one call that counts at the gateway asks for the node's own description, and the
database is locked for writing for a moment and left as it was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aihd.core.policy import AMPLE_RUNS, Credit
from aihd.errors import AihdError, one_line
from aihd.nodo.database import columns, is_unmetered, join_group, opened, quiet_transaction, unwritable
from aihd.nodo.discovery import Installation
from aihd.nodo.gateway import (
    BrokenAnswer,
    GatewayClient,
    Quarantined,
    Refused,
    TooSlow,
    UnknownClient,
    Unreachable,
)
from aihd.nodo.profiles import Profile
from aihd.nodo.registry import Registry
from aihd.nodo.resources import Resources
from aihd.nodo.transport import Security

BUSY: Final = 5.0  # seconds; nodo's own writes take milliseconds
NAMED: Final = 3  # services named in a finding
HASHED: Final = 64 << 20  # bytes; larger services are not hashed for a check
AHEAD: Final = 60.0  # seconds that nodo's files may be ahead of our clock


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `what`: its short name; `sentence`: what is so, and when not `ok` what would mend it."""

    ok: bool
    what: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What is asked of nodo, as `diagnose` says."""

    gateway: str | None
    security: Security
    peer_id: str | None
    client_id: str | None
    timeout: float
    services: Mapping[bytes, Resources]
    priced: bool


async def diagnose(
    installation: Installation,
    *,
    gateway: str | None = None,
    security: Security = "auto",
    peer_id: str | None = None,
    client_id: str | None = None,
    timeout: float = 10.0,
    services: Mapping[bytes, Resources] | None = None,
    priced: bool = False,
) -> list[Finding]:
    """Findings about the gateway, its version, our client id and its credit, the price, the database, the registry, the clock and the
    payment process.

    `gateway`: host:port when it is not the installation's own; `client_id`: the one that nodo gave us, if it did; `services`: those that
    we offer, by hash; `priced`: whether what they cost counts for us.
    """
    wanted = _Wanted(
        gateway=gateway,
        security=security,
        peer_id=peer_id,
        client_id=client_id,
        timeout=timeout,
        services=services or {},
        priced=priced,
    )
    found = [finding async for finding in _gateway(installation, wanted)]
    found += await asyncio.to_thread(_files, installation)
    return found


async def _gateway(installation: Installation, wanted: _Wanted) -> AsyncIterator[Finding]:
    address = wanted.gateway or installation.gateway
    if address is None:
        where = f"{installation.folder}: network.GATEWAY_PORT is auto"
        yield Finding(False, "gateway", f"{where}, so nodo has not served yet; start it, or set nodo.gateway")
        return
    async with GatewayClient(
        address,
        timeout=wanted.timeout,
        security=wanted.security,
        peer_id=wanted.peer_id,
        hash_algorithm=installation.hash_algorithm,
    ) as client:
        try:
            profile = await client.profile()
            proved = await client.peer_id()
        except AihdError as error:
            yield Finding(False, "gateway", f"{error}; {_cure(error, address)}")
            return
        over = "plaintext" if proved is None else f"TLS, as peer {proved}"
        yield Finding(True, "gateway", f"{address} answers over {over}")
        yield _version(installation, profile)
        if wanted.client_id is None:
            for finding in _new_client(installation, profile):
                yield finding
            return
        known = await _client(client, wanted.client_id, profile)
        yield known
        if known.ok:
            async for finding in _money(client, wanted.client_id, installation, wanted):
                yield finding


def _new_client(installation: Installation, profile: Profile) -> Iterator[Finding]:
    """What awaits the client id that we do not have yet."""
    if installation.welcome == 0 and not installation.allows_debt:
        wrong = f"nodo gives a new client id 0 {profile.unit}, so it starts no service for us"
        mend = profile.trust.format(client="<id>", amount="<amount>")
        yield Finding(
            False, "credit", f"{wrong}; start aihd once and check again, which names the id and the amount for: {mend}"
        )


async def _money(
    client: GatewayClient, client_id: str, installation: Installation, wanted: _Wanted
) -> AsyncIterator[Finding]:
    """Whether our credit is good for a few runs of what we offer, and whether what they cost can be counted."""
    try:
        if wanted.services and not _charged_nothing(installation, client_id):
            yield await _credit(client, client_id, wanted.services)
        if wanted.priced and installation.rate is None:
            yield await _price(client, client_id)
    except AihdError as error:
        yield Finding(False, "credit", f"{error}; look at nodo's log")


def _charged_nothing(installation: Installation, client_id: str) -> bool:
    try:
        return installation.allows_debt or is_unmetered(installation.database, client_id)
    except AihdError:
        return False  # the database has its own finding


async def _credit(client: GatewayClient, client_id: str, services: Mapping[bytes, Resources]) -> Finding:
    starts = [
        (await client.estimated_cost(service_hash, client_id=client_id, resources=resources)).start
        for service_hash, resources in services.items()
    ]
    profile, balance, dearest = await client.profile(), await client.get_metrics(client_id), max(starts)
    cure = profile.trust.format(client=client_id, amount=AMPLE_RUNS * dearest)
    credit = Credit(balance=balance, start=dearest, unit=profile.unit, cure=cure)
    objection = credit.objection()
    return Finding(objection is None, "credit", objection or f"our client id has {balance} {profile.unit}")


async def _price(client: GatewayClient, client_id: str) -> Finding:
    profile = await client.profile()
    try:
        rate = await client.declared_rate(client_id)
    except Refused as error:
        wrong = f"what {profile.unit} of nodo costs in ERG is not known ({one_line(error)}), so nothing is claimed"
        mend = 'set nodo.units_per_erg = "<units>", nodo.folder, or policy.count_nodo_cost = false'
        return Finding(False, "price", f"{wrong}; {mend}")
    return Finding(True, "price", f"nodo gives {rate.amount} {profile.unit} {rate.per.label}")


def _cure(error: AihdError, address: str) -> str:
    match error:
        case Unreachable():
            return f"start nodo (systemctl start nodo), or set nodo.gateway to where it listens instead of {address}"
        case TooSlow():
            return "nodo's threads may all be busy: look at its log, restart it if it stays so"
        case BrokenAnswer():
            return "set nodo.gateway to nodo's GATEWAY_PORT: another program listens here, or not the way it should"
        case Refused():
            return "set nodo.peer_id to this node's if it was installed anew, else somebody is in between"
        case _:
            return "mend nodo.gateway"


def _version(installation: Installation, profile: Profile) -> Finding:
    runs = f"nodo of version {profile.name} answers"
    if installation.version in (None, profile.name):
        return Finding(True, "version", f"{runs}, which counts in {profile.unit}")
    said = f"{installation.folder} looks like {installation.version}"
    cure = "restart nodo if it was updated; else nodo.gateway and nodo.folder belong to two nodes"
    return Finding(False, "version", f"{runs}, but {said}; {cure}")


async def _client(client: GatewayClient, client_id: str, profile: Profile) -> Finding:
    try:
        if not profile.gated:
            await client.get_metrics(client_id)
        else:
            await client.declared_rate(client_id)
    except Quarantined as error:
        wait = f"wait {error.seconds:.0f} s; if it comes back, another program uses this client id, or lower its pace"
        return Finding(False, "client", f"nodo shuts our client id out for calling too often; {wait}")
    except UnknownClient:
        return _forgotten()
    except Refused as error:
        if not profile.gated:
            return _forgotten()
        # It let us in: what it refuses is ERG.
        return Finding(True, "client", f"nodo knows our client id, though {error}")
    except AihdError as error:
        return Finding(False, "client", f"{error}; look at nodo's log")
    return Finding(True, "client", "nodo knows our client id")


def _forgotten() -> Finding:
    cure = "restart aihd, so that it gets a new one"
    return Finding(False, "client", f"nodo does not know our client id (its database was made anew?); {cure}")


def _files(installation: Installation) -> list[Finding]:
    return [_database(installation), *_registry(installation), _clock(installation), *_plug_ins(installation.folder)]


def _database(installation: Installation) -> Finding:
    path = installation.database
    if path.exists() and (closed := unwritable(path.parent)):
        return Finding(False, "database", f"{closed}, and SQLite puts its journal there; {join_group(path.parent)}")
    try:
        with opened(path, busy_timeout=BUSY) as connection:
            if not columns(connection, "clients"):
                sentence = f"{path} has none of nodo's tables; run `nodo migrate`, or set nodo.database"
                return Finding(False, "database", sentence)
            with quiet_transaction(connection, path, BUSY):
                # Begun for writing, a transaction on a file that may only be read is none yet: this shows it.
                connection.execute("DELETE FROM clients WHERE 0")
    except AihdError as error:
        return Finding(False, "database", str(error))
    return Finding(True, "database", f"{path} can be read and written")


def _registry(installation: Installation) -> list[Finding]:
    registry = Registry(installation.registry, installation.metadata)
    try:
        count, bare = len(registry.ids()), registry.without_metadata()
    except AihdError as error:
        return [Finding(False, "registry", f"{error}; set nodo.storage, or run aihd in nodo's group")]
    found = [Finding(True, "registry", f"{installation.registry} holds {count} services")]
    if bare:
        sentence = f"{len(bare)} services have no metadata that names them, nodo will not start them: {_some(bare)}"
        found.append(Finding(False, "metadata", f"{sentence}; import or pack them again"))
    else:
        found.append(Finding(True, "metadata", "every service has its metadata"))
    return [*found, _hashes(installation, registry)]


def _hashes(installation: Installation, registry: Registry) -> Finding:
    """Whether the configured algorithm is the one that the services have their names from."""
    small = [name for name in registry.ids() if _size(installation.registry / name) <= HASHED]
    kinds = {name: registry.algorithm_of(name) for name in small}
    others = {name: kind for name, kind in kinds.items() if kind not in (None, installation.hash_algorithm)}
    if others:
        name, kind = next(iter(others.items()))
        sentence = (
            f"{len(others)} services are named by {kind} ({name[:12]}…), nodo is set to {installation.hash_algorithm}"
        )
        return Finding(False, "hash", f"{sentence}; set hashing.HASH to {kind} and restart nodo, or import them again")
    damaged = [name for name in small if kinds[name] is None and (installation.registry / name).is_file()]
    if damaged:
        sentence = f"the content of {len(damaged)} services does not have their id: {_some(damaged)}"
        return Finding(False, "hash", f"{sentence}; they are damaged: import them again")
    return Finding(True, "hash", f"services are named by {installation.hash_algorithm}")


def _clock(installation: Installation) -> Finding:
    try:
        ahead = installation.database.stat().st_mtime - time.time()
    except OSError:
        ahead = 0.0
    if ahead > AHEAD:
        sentence = f"nodo last wrote {ahead:.0f} s in the future of this machine's clock"
        return Finding(False, "clock", f"{sentence}; set the clock (timedatectl set-ntp true)")
    return Finding(True, "clock", "nodo's files are not ahead of this machine's clock")


def _plug_ins(folder: Path) -> Iterator[Finding]:
    """Where nodo's environment is to find ours: a path file that names an environment for editing leads to no aihd.nodo."""
    for file in sorted(folder.glob("venv/lib/python3*/site-packages/*.pth")):
        for line in _lines(file):
            named = Path(line)
            if line.startswith(("import", "#")) or not line or (named / "aihd" / "nodo").is_dir():
                continue
            if any(named.glob("aihd-*.dist-info")):
                wrong = f"{file} names {named}, where aihd is installed for editing, so nodo finds no aihd.nodo there"
                mend = f"""echo "import site; site.addsitedir('{named}')" > {file}"""
                yield Finding(False, "payment process", f"{wrong}; {mend}")


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text().splitlines()]
    except (OSError, UnicodeDecodeError):
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _some(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"{name[:12]}…" for name in names[:NAMED]) + (", and others" if len(names) > NAMED else "")
