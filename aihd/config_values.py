"""The types of single configuration values: what a person writes in, a checked value out, and back again as text.

Promise: every refusal is a ValueError whose text says what would be right; none repeats the value, the caller shows it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, cast
from urllib.parse import urlsplit

from ergo_lib_python.chain import Address
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from aihd.protocol.units import (
    NanoErg,
    Quantity,
    format_duration,
    format_erg,
    format_size,
    parse_duration,
    parse_erg,
    parse_quantity,
    parse_size,
)

MIN_FEE = NanoErg(1_000_000)  # nodes do not relay less
LONGEST = 30 * 86_400.0  # seconds
_VISIBLE = re.compile(r"[!-~]+")
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
MAX_ENDPOINT_BYTES = 200  # the bond's register


@dataclass(frozen=True, slots=True)
class HostPort:
    """A TCP address; written "host:port", and "[::1]:port" for IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _host_port(value: object) -> HostPort:
    if isinstance(value, HostPort):
        return value
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", str(value), re.ASCII)
    if match is None or int(match[3]) > 65535 or (match[1] and not is_ip(match[1])):
        raise ValueError('should be host:port, for example "127.0.0.1:9464"')
    return HostPort(match[1] or match[2], int(match[3]))


def _url(value: str) -> str:
    example = 'should be an http or https address without query, for example "http://127.0.0.1:9053"'
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port  # which may be wrong by itself
    except ValueError as error:
        raise ValueError(f"{example} ({error})") from None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or port == 0:
        raise ValueError(example)
    if not _VISIBLE.fullmatch(value) or not (_HOST.fullmatch(host) or is_ip(host)):
        raise ValueError(example)
    if parts.username is not None or parts.password is not None:
        raise ValueError("a password may not stand in an address: nothing here can be kept secret")
    return value.rstrip("/")


def is_ip(host: str) -> bool:
    """Whether a host is an address, and not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone."""
    return host == "localhost" or (is_ip(host) and ip_address(host).is_loopback)


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(
            "should be an absolute path, for example /etc/aihd/mnemonic: a daemon has no folder of its own"
        )
    return path


def _whole(value: object) -> object:
    if isinstance(value, bool | float):
        raise ValueError("should be a whole number")
    return value


def items(value: object) -> object:
    """A list out of an environment variable: JSON, or texts with commas between them."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return [item.strip() for item in value.split(",") if item.strip()]
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"is not the JSON list it begins as: {error}") from error


def _payable(amount: NanoErg) -> NanoErg:
    if amount < MIN_FEE:
        raise ValueError(f"should be at least {format_erg(MIN_FEE)}: nodes do not relay less")
    return amount


def _prices(value: object) -> object:
    """One price, or a list of prices in different units."""
    texts = value if isinstance(value, list | tuple) else items(value)
    prices = tuple(
        price if isinstance(price, Quantity) else parse_quantity(price) for price in cast("Iterable[object]", texts)
    )
    units = [price.unit for price in prices]
    if not prices or len(set(units)) < len(units):
        raise ValueError('should be one price for each unit, for example ["0.05 ERG", "0.10 SigUSD"]')
    return prices


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("should be longer than nothing")
    if seconds > LONGEST:
        raise ValueError(f"should be at most {format_duration(LONGEST)}")
    return seconds


def _service_hash(value: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", value):
        raise ValueError("should be 64 hexadecimal digits, the id that nodo shows for the service")
    return value.lower()


def _peer_name(value: str) -> str:
    if not re.fullmatch(r"[1-9A-HJ-NP-Za-km-z]{40,}=[^\s=]+", value):
        raise ValueError("should be an Ergo address, an equals sign and the id that nodo has for the peer")
    return value


def _address(value: str) -> str:
    try:
        Address(value)
    except ValueError as error:
        raise ValueError(f"should be an Ergo address ({error})") from error
    return value


def _token_id(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError("should be a token id: 64 lowercase hexadecimal digits")
    return value


def _endpoint(value: str) -> str:
    if len(value.encode()) > MAX_ENDPOINT_BYTES:
        raise ValueError(f"should be at most {MAX_ENDPOINT_BYTES} bytes: the bond has no room for more")
    return value


class Section(BaseModel):
    """A table of the TOML file: values do not change, and a key that is not listed is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Amount = Annotated[NanoErg, BeforeValidator(parse_erg), PlainSerializer(format_erg)]
Prices = Annotated[
    tuple[Quantity, ...], BeforeValidator(_prices), PlainSerializer(lambda prices: [str(price) for price in prices])
]
Fee = Annotated[Amount, AfterValidator(_payable)]
Duration = Annotated[
    float, BeforeValidator(parse_duration), AfterValidator(_positive), PlainSerializer(format_duration)
]
Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(format_size)]
Whole = Annotated[int, BeforeValidator(_whole)]
TcpAddress = Annotated[HostPort, BeforeValidator(_host_port), PlainSerializer(str)]
Url = Annotated[str, AfterValidator(_url)]
Urls = Annotated[tuple[Url, ...], BeforeValidator(items)]
File = Annotated[Path, AfterValidator(_absolute), PlainSerializer(str)]
ServiceHash = Annotated[str, AfterValidator(_service_hash)]
PeerNames = Annotated[tuple[Annotated[str, AfterValidator(_peer_name)], ...], BeforeValidator(items)]
Addresses = Annotated[tuple[Annotated[str, AfterValidator(_address)], ...], BeforeValidator(items)]
TokenId = Annotated[str, AfterValidator(_token_id)]
EndpointUrl = Annotated[Url, AfterValidator(_endpoint)]
Network = Literal["mainnet", "testnet", "devnet"]


SECONDS_PER_BLOCK: Final = {"mainnet": 120.0, "testnet": 45.0, "devnet": 1.0}
"""How far apart blocks are meant to come; on the devnet, at the most."""
