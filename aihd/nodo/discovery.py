"""Where the parts of a nodo on this machine are, read from its installation folder.

A nodo keeps its settings in `config.yaml` of that folder (in 2024: `.env`). Nothing else of the file is kept here: it holds
wallet mnemonics. What a caller knows better it sets with `dataclasses.replace`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Final

import yaml

from aihd.errors import ConfigError, one_line
from aihd.nodo.hashing import ALGORITHMS, DEFAULT, algorithm_named
from aihd.nodo.pricing import from_gas_per_erg
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

    `per_nanoerg`: units (MU, or gas) that this node gives for one nanoERG. `serial_log`: whether it keeps its guests'
    consoles.
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
    per_nanoerg: Fraction
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
    return _installation(folder, _File(folder / CONFIG, {"main.STORAGE": str(storage)}), None)


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

    def rate(self, name: str, default: str) -> Fraction:
        text = self.text(name, default)
        try:
            rate = Fraction(Decimal(text))
        except (InvalidOperation, ValueError, OverflowError):
            rate = Fraction(0)
        if rate <= 0:
            raise ConfigError(f"{self.path}: {name} is {text!r}, should be a number above 0")
        return rate


def _installation(folder: Path, file: _File, version: str | None) -> Installation:
    storage = str(file.folder("main.STORAGE", str(folder / "storage")))
    port = file.port("network.GATEWAY_PORT")
    plain, auto = file.port("network.GATEWAY_PLAINTEXT_PORT"), port + 1 if port is not None else None
    gas = version == VFEB.name
    name = "ledgers.ergo.GAS_PER_ERG" if gas else "ledgers.ergo.payments.MU_PER_NANOERG"
    rate = file.rate(name, "1e58" if gas else "1")
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
        per_nanoerg=from_gas_per_erg(rate) if gas else rate,
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
        per_nanoerg=from_gas_per_erg(file.rate("GAS_PER_ERG", "1e58")),
        serial_log=False,
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
    return {key.strip(): value.strip().strip("'\"") for key, _, value in pairs}
