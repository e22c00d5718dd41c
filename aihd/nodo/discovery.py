"""Where the parts of a nodo on this machine are, read from its installation folder.

A nodo keeps its settings in `config.yaml` of that folder (in 2024: `.env`). Nothing else of the file is kept here: it holds
wallet mnemonics. What a caller knows better it sets with `dataclasses.replace`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Final

import yaml

from aihd.errors import ConfigError, one_line
from aihd.nodo.gate import GateRule
from aihd.nodo.hashing import ALGORITHMS, DEFAULT, algorithm_named
from aihd.nodo.pricing import Per, Rate
from aihd.nodo.profiles import V24, VFEB, VJUL, VNEW, Unit

CONFIG: Final = "config.yaml"
ENV: Final = ".env"
V24_PORT: Final = 8090
LOCALHOST: Final = "127.0.0.1"

_REFERENCE = re.compile(r"\$\{([A-Za-z_.]+)\}")
Values = Mapping[str, str]  # by full name, "main.STORAGE"


@dataclass(frozen=True, slots=True)
class Installation:
    """One nodo. `port` and `plaintext_port` are None when the file does not say them (yet): nodo chooses its port when it
    first serves. `version`: what the file looks like; what runs is found by asking the gateway.

    `rate`: units (MU, or gas) that this node gives for ERG; None where its settings are not known or name none. `gate`: how often it lets
    a client call. `allows_debt`: whether a client may owe it. `welcome`: the credit of a new client, None where that is not said.
    `serial_log`: whether it keeps its guests' consoles.
    """

    folder: Path
    version: str | None
    host: str
    port: int | None
    plaintext_host: str
    plaintext_port: int | None
    storage: Path
    database: Path
    registry: Path
    metadata: Path
    cache: Path
    hash_algorithm: str
    unit: Unit
    rate: Rate | None
    gate: GateRule
    allows_debt: bool
    welcome: int | None
    serial_log: bool

    @property
    def gateway(self) -> str | None:
        """host:port of the gateway, TLS in the versions that have it."""
        return None if self.port is None else f"{self.host}:{self.port}"


def discover(folder: Path) -> Installation:
    """The nodo that is installed in a folder (its main.MAIN_DIR).

    ConfigError when there is none, or its file is none of nodo's or has a value that cannot be; it names both.
    """
    config, env = folder / CONFIG, folder / ENV
    try:
        newer, older = config.exists(), env.exists()
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read: {error.strerror}; aihd has to run in nodo's group") from error
    if newer:
        values = _flat(_parsed(config))
        return _installation(folder, _File(config, values), _version(values))
    if older:
        return _of_2024(folder, _File(env, _env(env)))
    raise ConfigError(f"{folder} holds no nodo: neither {CONFIG} nor {ENV} is there; it should be nodo's main.MAIN_DIR")


def assumed(storage: Path) -> Installation:
    """A nodo of which only the storage folder is known: everything else is where the newest one puts it by itself."""
    folder = storage.parent
    found = _installation(folder, _File(folder / CONFIG, {"main.STORAGE": str(storage)}), None)
    return replace(found, rate=None)  # what it takes for ERG is its operator's choice, and not to be guessed


@dataclass(frozen=True, slots=True)
class _File:
    """Settings by full name, as text."""

    path: Path
    values: Values

    def text(self, name: str, default: str) -> str:
        """A value with the values that it refers to put in."""
        return self._filled(name, self.values.get(name, "") or default, (name,))

    def _filled(self, name: str, text: str, within: tuple[str, ...]) -> str:
        def put(match: re.Match[str]) -> str:
            wanted = match[1]
            if wanted in within or wanted not in self.values:
                raise ConfigError(f"{self.path}: {name} refers to ${{{wanted}}}, which has no value of its own")
            return self._filled(wanted, self.values[wanted], (*within, wanted))

        return _REFERENCE.sub(put, text)

    def folder(self, name: str, default: str) -> Path:
        return self.path.parent / self.text(name, default)

    def port(self, name: str) -> int | None:
        """A port; None for `auto`, and when there is none."""
        text = self.text(name, "auto")
        if text == "auto":
            return None
        if not text.isdigit() or int(text) >= 1 << 16:
            raise ConfigError(f"{self.path}: {name} is {text!r}, should be a port or auto")
        return int(text)

    def number(self, name: str, default: str) -> Fraction:
        """A number above 0."""
        text = self.text(name, default)
        try:
            number = Fraction(Decimal(text))
        except (InvalidOperation, ValueError, OverflowError):
            number = Fraction(0)
        if number <= 0:
            raise ConfigError(f"{self.path}: {name} is {text!r}, should be a number above 0")
        return number

    def flag(self, name: str) -> bool:
        """A switch that is off unless it is written down as on."""
        return self.text(name, "false").lower() in ("true", "t", "yes", "on", "1")


def _installation(folder: Path, file: _File, version: str | None) -> Installation:
    storage = str(file.folder("main.STORAGE", str(folder / "storage")))
    port = file.port("network.GATEWAY_PORT")
    plain, auto = file.port("network.GATEWAY_PLAINTEXT_PORT"), port + 1 if port is not None else None
    gas = version == VFEB.name
    if gas:
        rate = Rate(file.number("ledgers.ergo.GAS_PER_ERG", "1e58"), Per.ERG)
    else:
        rate = Rate(file.number("ledgers.ergo.payments.MU_PER_NANOERG", "1"), Per.NANOERG)
    serial = file.text("virtualizers.ch.SERIAL_MODE", "file")
    return Installation(
        folder=folder,
        version=version,
        host=LOCALHOST,
        port=port,
        plaintext_host=file.text("virtualizers.ch.NETWORK_GATEWAY_IP", LOCALHOST),
        # 0 switches it off; only the newest version has it.
        plaintext_port=(plain or None if plain is not None else auto) if version == VNEW.name else None,
        storage=Path(storage),
        database=file.folder("main.DATABASE_FILE", f"{storage}/database.sqlite"),
        registry=file.folder("main.REGISTRY", f"{storage}/__registry__"),
        metadata=file.folder("main.METADATA_REGISTRY", f"{storage}/__metadata__"),
        cache=file.folder("main.CACHE", f"{storage}/__cache__"),
        hash_algorithm=_algorithm(file),
        unit="gas" if gas else "MU",
        rate=rate,
        gate=_gate(file),
        allows_debt=file.flag("costs.ALLOW_DEBT") or file.flag("costs.ALLOW_GAS_DEBT"),
        welcome=_welcome(file, version),
        serial_log=serial.startswith("file"),
    )


def _of_2024(folder: Path, file: _File) -> Installation:
    """That version computes all its folders from MAIN_DIR, and hashes with SHA3-256 whatever happens."""
    main = Path(file.text("MAIN_DIR", str(folder)))
    storage = main / "storage"
    port = file.port("GATEWAY_PORT")
    return Installation(
        folder=folder,
        version=V24.name,
        host=LOCALHOST,
        port=V24_PORT if port is None else port,
        plaintext_host=LOCALHOST,
        plaintext_port=None,
        storage=storage,
        database=storage / "database.sqlite",
        registry=storage / "__registry__",
        metadata=storage / "__metadata__",
        cache=storage / "__cache__",
        hash_algorithm=DEFAULT,
        unit="gas",
        # Of this version none is known that has the key; an operator may have set it for the payment contract of his own.
        rate=Rate(file.number("GAS_PER_ERG", "0"), Per.ERG) if file.values.get("GAS_PER_ERG") else None,
        gate=GateRule(),
        allows_debt=file.flag("ALLOW_GAS_DEBT"),
        welcome=0,
        serial_log=False,
    )


def _welcome(file: _File, version: str | None) -> int | None:
    """What nodo gives a new client: nothing, unless its operator has said otherwise."""
    text = file.text("free_tier.CREDIT_MU_PER_NEW_CLIENT", "0")
    return int(text) if version is not None and text.isascii() and text.isdigit() else None


def _gate(file: _File) -> GateRule:
    """nodo's limit on the calls of a client, by its own settings; it takes what is no number there for its default."""

    def setting(name: str, usual: float) -> float:
        try:
            return float(file.text(f"communication.CLIENT_RATE_LIMIT_{name}", str(usual)))
        except ValueError:
            return usual

    rule = GateRule()
    return GateRule(
        calls=max(1, int(setting("MAX_CALLS", rule.calls))),
        window=max(1.0, setting("WINDOW_SECONDS", rule.window)),
        quarantine=max(1.0, setting("QUARANTINE_SECONDS", rule.quarantine)),
    )


def _algorithm(file: _File) -> str:
    text = file.text("hashing.HASH", DEFAULT)
    found = algorithm_named(text)
    if found is None:
        known = ", ".join(ALGORITHMS)
        raise ConfigError(f"{file.path}: hashing.HASH is {text!r}, should be {known} or the id of one of them")
    return found


def _version(values: Values) -> str | None:
    """By settings that came, or went, with a version; None when none of them is there."""
    if any(name.startswith(("identity.", "free_tier.")) or name.endswith("GATEWAY_PLAINTEXT_PORT") for name in values):
        return VNEW.name
    if "ledgers.ergo.payments.MU_PER_NANOERG" in values or any(name.startswith("pricing.") for name in values):
        return VJUL.name
    return VFEB.name if "ledgers.ergo.GAS_PER_ERG" in values else None


def _parsed(path: Path) -> object:
    try:
        # BaseLoader: every scalar as the text that it is, so that 1.0e+58 becomes no float and a hash no number.
        return yaml.load(_read(path), Loader=yaml.BaseLoader)  # noqa: S506 - the loader that makes nothing but text
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {one_line(error)}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; aihd has to run in nodo's group") from error


def _flat(node: object, prefix: str = "") -> dict[str, str]:
    if not isinstance(node, Mapping):
        return {prefix: str(node)} if prefix else {}
    found: dict[str, str] = {}
    for key, value in node.items():
        found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _env(path: Path) -> dict[str, str]:
    lines = (line.strip() for line in _read(path).splitlines())
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    # As python-dotenv reads it: what stands behind a space and a # is a comment.
    return {key.strip(): re.split(r"\s#", value, maxsplit=1)[0].strip().strip("'\"") for key, _, value in pairs}
