"""The configuration: what can be set, where it comes from, and what is wrong with it.

Promise: values are taken from defaults, the TOML file, `AIHD_*` variables and flags, the later winning; every problem
is reported at once, one line each, with the key, the value, the place it came from and what would be right; and no
secret is ever accepted as a value, only as the path of a file.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast, get_args

from ergo_lib_python.chain import Address, NetworkPrefix
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from aihd.config_values import (
    Addresses,
    Amount,
    Duration,
    EndpointUrl,
    Fee,
    File,
    HostPort,
    Network,
    PeerNames,
    Prices,
    Section,
    Size,
    TcpAddress,
    TokenId,
    Url,
    Urls,
    Whole,
    is_loopback,
    items,
)
from aihd.core.assets import Asset as AssetValue
from aihd.core.task import Limits
from aihd.errors import ConfigError
from aihd.execution.template import Template, read_template
from aihd.nodo.discovery import Installation, assumed, discover
from aihd.nodo.pricing import Per, Rate
from aihd.protocol.opinion import CELAUT_NODE_TYPE
from aihd.protocol.trees import prefix_of
from aihd.protocol.units import NanoErg, Quantity, format_erg, parse_quantity
from aihd.resources import resource

DEFAULT_FILE = Path("/etc/aihd/aihd.toml")
MAX_OPEN_TASKS = 48  # ids that fit into a bond box
KNOWN_ASSETS = {"SigUSD": ("03faf2cb329f2e90d6d23b58d91bbb6c046aa143261cc21f52fbe2824bfcbf04", 2)}
"""Id and decimals of tokens of mainnet."""
_MAINNET_EXPLORER = "https://api.ergoplatform.com"
_ENV_PREFIX = "AIHD_"
# AIHD_SECTION__KEY, and the one section that is a list. Whoever links containers, or runs services, has AIHD_PORT and the like set for him.
_SETTING = re.compile(r"AIHD_([A-Za-z]+__.+|SERVICES)")
_SECRET = re.compile(r"mnemonic|password|passphrase|secret|seed|api_?key|private_?key")
_T = TypeVar("_T")


# --- sections ------------------------------------------------------------------------------------------------------


class Chain(Section):
    """Which chain, and whom to ask about it."""

    network: Network = "mainnet"
    node_urls: Annotated[Urls, Field(min_length=1)] = ("http://127.0.0.1:9053",)
    explorer_urls: Urls = (_MAINNET_EXPLORER,)
    address_prefix: Literal["mainnet", "testnet"] | None = None
    poll: Annotated[Duration, Field(le=3600)] = 15.0
    final_depth: Annotated[Whole, Field(ge=1, le=720)] = 10
    deployment: File | None = None

    @property
    def prefix(self) -> NetworkPrefix:
        """How addresses of this chain begin."""
        return prefix_of(self.address_prefix or self.network)

    @model_validator(mode="after")
    def _explorer_of_the_same_chain(self) -> Self:
        if self.network != "mainnet" and _MAINNET_EXPLORER in self.explorer_urls:
            raise ValueError(f"explorer_urls names the explorer of mainnet, but network is {self.network!r}: set both")
        return self


class Wallet(Section):
    """The hot wallet: where its secret lies and how much may leave it."""

    mnemonic_file: File | None = None
    password_file: File | None = None
    payout_address: str | None = None
    fee: Fee = NanoErg(1_100_000)
    max_spend_per_tx: Amount = NanoErg(1_000_000_000)
    max_spend_per_hour: Amount = NanoErg(2_000_000_000)
    max_spend_per_day: Amount = NanoErg(5_000_000_000)

    @model_validator(mode="after")
    def _limits_in_order(self) -> Self:
        limits = ("fee", "max_spend_per_tx", "max_spend_per_hour", "max_spend_per_day")
        for small, large in pairwise(limits):
            low, high = getattr(self, small), getattr(self, large)
            if low > high:
                raise ValueError(f"{small} ({format_erg(low)}) should not be more than {large} ({format_erg(high)})")
        return self


class Nodo(Section):
    """The Celaut node beside us."""

    folder: File | None = None
    gateway: TcpAddress = HostPort("127.0.0.1", 50051)
    security: Literal["auto", "plaintext", "tls"] = "auto"
    peer_id: Annotated[str, Field(pattern=r"^[0-9a-f]{64,66}$")] | None = None
    storage: File = Path("/nodo/storage")
    database: File | None = None
    start_timeout: Duration = 120.0
    peers: PeerNames = ()
    templates: Annotated[tuple[File, ...], BeforeValidator(items)] = ()
    docker: Annotated[str, Field(pattern=r"^(unix|tcp|ssh)://\S+$")] | None = None
    bridge: Literal["database", "plug-in"] = "database"
    units_per_erg: Annotated[str, Field(pattern=r"^[1-9]\d{0,8}(\.\d+)?(e\d{1,3})?$")] | None = None

    @property
    def peer_ids(self) -> Mapping[str, str]:
        """nodo's peer ids by Ergo address."""
        return dict(name.split("=", 1) for name in self.peers)

    @cached_property
    def installation(self) -> Installation:
        """What nodo's own settings say, if its folder is known; what is set here wins."""
        given = self.model_fields_set
        found = assumed(self.storage) if self.folder is None else discover(self.folder)
        if "storage" in given and self.folder is not None:
            parts = assumed(self.storage)
            found = replace(
                found, storage=parts.storage, database=parts.database, registry=parts.registry, metadata=parts.metadata
            )
        if self.database is not None:
            found = replace(found, database=self.database)
        if self.units_per_erg is not None:
            found = replace(found, rate=Rate(Fraction(Decimal(self.units_per_erg)), Per.ERG))
        if "gateway" in given or found.port is None:
            found = replace(found, host=self.gateway.host, port=self.gateway.port)
        return found


class Opinion(Section):
    """What this node says of others on the chain, as a reputation proof. Off unless asked for: it is public, costs money, and stays."""

    enabled: bool = False
    threshold: Annotated[Whole, Field(ge=1)] = 10
    max_spend: Amount = NanoErg(20_000_000)
    node_type: TokenId = CELAUT_NODE_TYPE.hex()
    service_type: TokenId | None = None


class Reputation(Section):
    """What is read of the whole market's history, and done by it."""

    index: bool = True
    public_funders: Addresses = ()
    settle_others: bool = False

    @model_validator(mode="after")
    def _what_is_read_is_used(self) -> Self:
        if not self.index and self.public_funders:
            raise ValueError("public_funders says how the history is read, but index is false")
        return self


class Policy(Section):
    """What is accepted; whatever no rule accepts is declined."""

    min_payment: Prices = (parse_quantity("0.01 ERG"),)
    min_profit: Amount = NanoErg(0)
    count_nodo_cost: bool = True
    min_client_score: Annotated[float, Field(ge=-1, le=1)] | None = None
    max_holdback: Annotated[float, Field(ge=0, le=100)] = 100.0
    max_holdback_of_strangers: Annotated[float, Field(ge=0, le=100)] = 100.0
    stranger_below: Annotated[float, Field(ge=-1, le=1)] = 0.0
    max_open_tasks: Annotated[Whole, Field(ge=1, le=MAX_OPEN_TASKS)] = 4
    claim_margin_blocks: Annotated[Whole, Field(ge=0)] = 10
    release_margin_blocks: Annotated[Whole, Field(ge=1)] = 5
    max_input: Size = 100_000_000
    max_output: Size = 100_000_000

    @property
    def min_client_standing(self) -> int | None:
        """`min_client_score` in units of 10^-9, as scores are counted."""
        return None if self.min_client_score is None else round(self.min_client_score * 10**9)

    @property
    def holdback_by_standing(self) -> tuple[tuple[int, int], ...]:
        """Rows of least standing, in units of 10^-9, and the most basis points that may be held back."""
        known = round(self.stranger_below * 10**9)
        return (-(10**9), round(self.strangers_holdback * 100)), (known, round(self.max_holdback * 100))

    @property
    def strangers_holdback(self) -> float:
        """Percent that a stranger may hold back: never more than anybody may."""
        return min(self.max_holdback_of_strangers, self.max_holdback)


class Asset(Section):
    """One table of [[assets]]: a token that payments may be in. One that is known needs neither id nor decimals."""

    name: Annotated[str, Field(pattern="^[A-Za-z]{1,20}$")]
    id: TokenId | None = None
    decimals: Annotated[Whole, Field(ge=0, le=18)] | None = None
    max_worth: Annotated[Amount, Field(gt=0)]

    @model_validator(mode="after")
    def _known_or_told(self) -> Self:
        if self.name.upper() in ("ERG", "NANOERG"):
            raise ValueError("name is 'ERG', which is no token")
        if self.name not in KNOWN_ASSETS and (self.id is None or self.decimals is None):
            raise ValueError(f"{self.name} needs id and decimals; known without them: {', '.join(KNOWN_ASSETS)}")
        return self

    @property
    def token(self) -> bytes:
        return bytes.fromhex(self.id or KNOWN_ASSETS[self.name][0])

    @property
    def places(self) -> int:
        """Its decimals."""
        return KNOWN_ASSETS[self.name][1] if self.decimals is None else self.decimals


Service = Template
"""One table of [[services]]."""


class Bond(Section):
    """What clients learn from our bond."""

    endpoint: EndpointUrl | None = None


class Exchange(Section):
    """The door for clients, where inputs come in and outputs go out."""

    listen: TcpAddress = HostPort("127.0.0.1", 9465)
    ipfs_api: Url | None = None
    separate: bool = False
    connections: Annotated[Whole, Field(ge=8, le=10_000)] = 256
    per_address: Annotated[Whole, Field(ge=1, le=10_000)] | None = None
    uploads: Size = 400_000_000
    memory: Annotated[Size, Field(ge=100_000_000)] = 300_000_000

    @property
    def share(self) -> int:
        """Connections of one address; of a loopback address all may come, by a proxy."""
        if self.per_address is not None:
            return self.per_address
        return self.connections if is_loopback(self.listen.host) else min(16, self.connections)


class Client(Section):
    """What a wallet that posts tasks may do."""

    private_nodes: bool = False


class Ops(Section):
    """Files, logs and the page for operators."""

    listen: TcpAddress = HostPort("127.0.0.1", 9464)
    hosts: Annotated[tuple[str, ...], BeforeValidator(items)] = ()
    data_dir: File = Path("/var/lib/aihd")
    stop_within: Duration = 240.0
    min_free: Size = 300_000_000
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"


class Settings(BaseSettings):
    """The whole configuration; made by `load_settings`. Amounts are nanoERG, durations seconds, sizes bytes."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    chain: Chain = Chain()
    wallet: Wallet = Wallet()
    nodo: Nodo = Nodo()
    opinion: Opinion = Opinion()
    reputation: Reputation = Reputation()
    policy: Policy = Policy()
    services: Annotated[tuple[Service, ...], BeforeValidator(items)] = ()
    assets: Annotated[tuple[Asset, ...], BeforeValidator(items)] = ()
    bond: Bond = Bond()
    exchange: Exchange = Exchange()
    client: Client = Client()
    ops: Ops = Ops()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The layers that `load_settings` read, highest first; never this process's own environment.

        The library's own source for variables is not used: it passes over an AIHD_ variable that it does not know.
        """
        given = cast(InitSettingsSource, init_settings).init_kwargs
        layers = cast("Sequence[_Layer]", given.pop("layers", ()))
        return (init_settings, *(InitSettingsSource(settings_cls, layer.data) for layer in layers))

    @model_validator(mode="after")
    def _payout_address_on_this_network(self) -> Self:
        address = self.wallet.payout_address
        if address is not None:
            _check_address(address, self.chain.network)
        return self

    @model_validator(mode="after")
    def _clients_have_scores(self) -> Self:
        if self.policy.min_client_score is not None and not self.reputation.index:
            raise ValueError("policy.min_client_score asks for the scores of clients: set reputation.index = true")
        return self

    @model_validator(mode="after")
    def _services_differ(self) -> Self:
        names = [service.hash or service.name for service in self.services]
        twice = sorted({str(name) for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"services: {', '.join(twice)} is listed twice")
        return self

    @model_validator(mode="after")
    def _assets_differ(self) -> Self:
        for what, values in (("name", [a.name for a in self.assets]), ("id", [a.token.hex() for a in self.assets])):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"assets: {what} {twice[0]} is listed twice")
        for asset in self.assets:
            if self.chain.network != "mainnet" and asset.id is None:
                raise ValueError(f"assets: {asset.name} needs an id, since chain.network is {self.chain.network!r}")
        return self

    @model_validator(mode="after")
    def _prices_in_known_units(self) -> Self:
        self.prices(self.policy.min_payment, "policy.min_payment")
        for service in self.services:
            self.prices(service.min_payment or (), f"services: min_payment of {service.name or service.hash}")
        return self

    @property
    def asset_names(self) -> dict[bytes, AssetValue]:
        """The tokens that payments may be in, by id."""
        return {
            asset.token: AssetValue(name=asset.name, decimals=asset.places, max_worth=asset.max_worth)
            for asset in self.assets
        }

    def prices(self, prices: Sequence[Quantity], key: str) -> dict[bytes | None, int]:
        """Prices by asset, None standing for ERG, in smallest units; ValueError names `key` where a unit is not known, or stands twice."""
        amounts = [self.amount_of(price, key) for price in prices]
        units = [asset for asset, _ in amounts]
        if twice := next((price for price, unit in zip(prices, units, strict=True) if units.count(unit) > 1), None):
            raise ValueError(f"{key}: {twice} is one of two prices in the same unit")
        return dict(amounts)

    def amount_of(self, quantity: Quantity, key: str) -> tuple[bytes | None, int]:
        """The asset of a quantity (None for ERG) and how many of its smallest unit; ValueError names `key`."""
        scale = {"erg": 9, "nanoerg": 0}.get(quantity.unit.lower())
        if scale is not None:
            return None, quantity.smallest(scale)
        asset = next((asset for asset in self.assets if asset.name == quantity.unit), None)
        if asset is None:
            names = ", ".join(["ERG", *(asset.name for asset in self.assets)])
            raise ValueError(f"{key}: {quantity} is in a unit that no table of [[assets]] names; known are {names}")
        return asset.token, quantity.smallest(asset.places)

    @cached_property
    def offered(self) -> tuple[Service, ...]:
        """Every service that may be run for money: those listed here, and those of template files. ConfigError for a file that is wrong."""
        return (*self.services, *map(read_template, self.nodo.templates))

    @property
    def margins(self) -> Limits:
        """Blocks of margin, as the task table counts them: a release is final before anybody could time the task out."""
        rules, depth = self.policy, self.chain.final_depth
        return Limits(
            final_depth=depth,
            claim_margin=rules.claim_margin_blocks,
            release_margin=depth + rules.release_margin_blocks,
        )

    @property
    def data_dir(self) -> Path:
        """Folder of everything that aihd keeps."""
        return self.ops.data_dir

    @property
    def database(self) -> Path:
        return self.data_dir / "aihd.sqlite"

    @property
    def scores_file(self) -> Path:
        """What the market's history says of nodes, for nodo to read (aihd.nodo.opinion_of)."""
        return self.data_dir / "scores.sqlite"

    @property
    def outbox_file(self) -> Path:
        """Finished ratings on offer to nodo's own process (aihd.nodo.ratings)."""
        return self.data_dir / "ratings.sqlite"

    @property
    def content_dir(self) -> Path:
        """Inputs and outputs, each in a file named by its hash."""
        return self.data_dir / "content"

    @property
    def inbox_dir(self) -> Path:
        """Uploads that the daemon has not taken yet."""
        return self.data_dir / "inbox"

    @property
    def exchange_socket(self) -> Path:
        """Where an exchange that is a unit of its own meets the daemon."""
        return self.data_dir / "exchange.sock"

    @property
    def lock_file(self) -> Path:
        return self.data_dir / "aihd.lock"

    def describe(self) -> str:
        """The settings in force as TOML that reads back to the same; without a secret, since none can get in."""
        sections = self.model_dump(mode="json")
        lines: list[str] = []
        for name, section in sections.items():
            for table in section if isinstance(section, list) else [section]:
                lines += ["", f"[[{name}]]" if isinstance(section, list) else f"[{name}]", *_toml_lines(table)]
        return "\n".join(lines[1:]) + "\n"


def _check_address(address: str, network: Network) -> None:
    prefix = NetworkPrefix.Mainnet if network == "mainnet" else NetworkPrefix.Testnet
    try:
        # the parser takes every network's addresses and does not tell; the text on the right one is the same again
        same = Address(address).to_str(prefix) == address or network == "devnet"
    except ValueError as error:
        raise ValueError(f"wallet.payout_address = {address!r}: is not an Ergo address ({error})") from error
    if not same:
        raise ValueError(f"wallet.payout_address = {address!r}: is not an address of {network}")


def _toml_lines(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        # JSON's texts and numbers are TOML's
        yield f"# {key} is not set" if value is None else f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One source of values, nested by section, and how to name a key of it."""

    data: dict[str, Any]
    label: str  # a file, or "" for variables

    def depth(self, keys: Sequence[str]) -> int:
        """How many of the keys lead into this layer's data."""
        table: Any = self.data
        for count, key in enumerate(keys):
            if not isinstance(table, Mapping) or key not in table:
                return count
            table = table[key]
        return len(keys)

    def origin(self, keys: Sequence[str]) -> str:
        """Name of the place where a key was set: a variable, or this layer's label."""
        return self.label or _variable(".".join(keys[: self.depth(keys)]))


def load_settings(path: Path | None, env: Mapping[str, str], overrides: Mapping[str, Any]) -> Settings:
    """The settings from the file, the environment and the flags; ConfigError lists every problem.

    `path` is the file of `--config`; else it is `$AIHD_CONFIG`, else /etc/aihd/aihd.toml if there is one. `env` has the variables
    AIHD_SECTION__KEY (lists as JSON or with commas; an empty one is not set; other names are not ours), `overrides` {"section.key": x} or
    the same nested (None is not set). Where systemd passes the credentials aihd-mnemonic and aihd-password, they are the defaults of
    wallet.mnemonic_file and wallet.password_file.
    """
    layers = _layers(path, env, overrides)
    try:
        return Settings.model_validate({"layers": layers})
    except ValidationError as error:
        problems = [_problem(detail, layers) for detail in error.errors(include_url=False)]
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise ConfigError("\n  ".join([f"{count} in the configuration:", *problems]))


def config_example() -> str:
    """The commented example, config/aihd.example.toml: every key with its default."""
    return resource("config", "aihd.example.toml").read_text(encoding="utf-8")


def required(value: _T | None, key: str) -> _T:
    """The value, or a ConfigError that names the key when it is not set; for keys that only some verbs need."""
    if value is None:
        raise ConfigError(f"{key} is not set: set it in the configuration file or as {_variable(key)}")
    return value


def _variable(key: str) -> str:
    return _ENV_PREFIX + key.replace(".", "__").upper()


def _layers(path: Path | None, env: Mapping[str, str], overrides: Mapping[str, Any]) -> list[_Layer]:
    """All sources, highest first."""
    variables = {
        name[len(_ENV_PREFIX) :].lower(): value for name, value in env.items() if _SETTING.fullmatch(name) and value
    }
    layers = [_Layer(_nested(_flat(overrides, "."), "."), "command line"), _Layer(_nested(variables, "__"), "")]
    file = _file(path, env)
    if file:
        layers.append(_Layer(_read_toml(file), str(file)))
    return [*layers, _Layer(_credentials(env), "systemd credential")]


def _file(path: Path | None, env: Mapping[str, str]) -> Path | None:
    if path or env.get("AIHD_CONFIG"):
        return path or Path(env["AIHD_CONFIG"])
    try:
        DEFAULT_FILE.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return DEFAULT_FILE  # it cannot be looked at; reading it will say why
    return DEFAULT_FILE


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror}): name a TOML file that exists") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error


def _credentials(env: Mapping[str, str]) -> dict[str, Any]:
    folder = env.get("CREDENTIALS_DIRECTORY")
    names = ("mnemonic", "password") if folder else ()
    files = {f"{name}_file": Path(str(folder), f"aihd-{name}") for name in names}
    return {"wallet": {key: file for key, file in files.items() if file.exists()}}


def _flat(table: Mapping[str, Any], delimiter: str, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, delimiter, f"{prefix}{key}{delimiter}")
        elif value is not None:
            flat[prefix + key] = value
    return flat


def _nested(flat: Mapping[str, Any], delimiter: str) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, key = name.split(delimiter)
        table = nested
        for section in sections:
            # a section that is also set as one value stays wrong, and is reported as that
            table = table.setdefault(section, {}) if isinstance(table.get(section, {}), dict) else {}
        table[key] = value
    return nested


# --- problems ------------------------------------------------------------------------------------------------------


def _problem(detail: ErrorDetails, layers: Sequence[_Layer]) -> str:
    """One line: where, which value, from which source, and what would be right."""
    keys = [str(part) for part in detail["loc"] if isinstance(part, str)]
    if not keys:
        return _reason(detail)
    origin = max(layers, key=lambda layer: layer.depth(keys)).origin(keys)
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]).lstrip(".")
    if detail["type"] == "extra_forbidden":
        return f"{where} ({origin}): {_unknown(keys, origin)}"
    value = detail["input"]
    shown = (
        "" if isinstance(value, Mapping | BaseModel) or detail["type"] == "missing" else f" = {_shown(keys[-1], value)}"
    )
    return f"{where}{shown} ({origin}): {_reason(detail)}"


def _reason(detail: ErrorDetails) -> str:
    if detail["type"] == "missing":
        return "is missing, and has no default"
    if detail["type"] in ("model_type", "dict_type", "model_attributes_type"):
        return "should be a table of keys"
    return re.sub(r"^(Value error, |\w+ (?=should ))", "", detail["msg"])


def _shown(key: str, value: object) -> str:
    """The value for a message; not that of a key that may hold a secret by mistake, nor a password in an address."""
    if _SECRET.search(key.lower()):
        return "(not shown)"
    text = re.sub(r"//[^/@\s]*@", "//***@", repr(value))
    return text if len(text) <= 100 else text[:99] + "…"


def _unknown(keys: Sequence[str], origin: str) -> str:
    name = ".".join(keys)
    if _SECRET.search(keys[-1].lower()) and not keys[-1].lower().endswith("_file"):
        return (
            "a secret may not stand in the configuration or in a variable; "
            "put it into a file of mode 0600 and set wallet.mnemonic_file or wallet.password_file"
        )
    known = [*(Settings.model_fields if len(keys) == 1 else ()), *_known_keys()]
    near = [key for key in known if key.split(".")[-1] == keys[-1]] or difflib.get_close_matches(name, known, 1, 0.6)
    if near:
        by_variable = origin.startswith(_ENV_PREFIX) and keys[0] != "services"
        return f"unknown key; did you mean {_variable(near[0]) if by_variable else near[0]}?"
    siblings = [key.split(".")[1] for key in known if key.startswith(f"{keys[0]}.")] or list(Settings.model_fields)
    return f"unknown key; known are {', '.join(siblings)}"


def _known_keys() -> Iterator[str]:
    """Every key that can be set, as section.key."""
    for name, field in Settings.model_fields.items():
        section = cast(type[Section], next(iter(get_args(field.annotation)), field.annotation))
        yield from (f"{name}.{key}" for key in section.model_fields)
