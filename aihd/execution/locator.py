"""Inputs that a task's locator leads to: inside the locator itself (data:), or on a server of the client's choice (https:).

A stranger writes the locator, so what it leads to is not trusted: every address that a name resolves to has to be a public
one, and it is that address that is connected to; no redirect is followed; size and time are bounded; and nothing is kept
that does not match the task's commitment.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from aihd.errors import TemporaryError, UsageError, one_line
from aihd.execution.inputs import DATA_LOCATOR, InputStore, StoredInput

PIECE: Final = 1 << 18
# Networks whose addresses hold one of IPv4 at their end, to which they lead: translated (RFC 6052, RFC 8215, RFC 2765) and compatible.
_HOLDERS: Final = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")))
# Not of the open internet, whatever the library of some version of Python says: local NAT64, and site-local.
_CLOSED: Final = tuple(map(ipaddress.IPv6Network, ("64:ff9b:1::/48", "fec0::/10", "::/128", "::1/128")))


@dataclass(frozen=True, slots=True)
class Fetcher:
    """`timeout` in seconds bounds a whole fetch. `devnet` also allows http: and private addresses, for a chain on one machine.

    `trust` is the set of certificates to check servers by; the system's when there is none.
    """

    timeout: float = 120.0
    devnet: bool = False
    trust: ssl.SSLContext | None = None

    def refusal(self, locator: str) -> str | None:
        """Why this locator cannot be followed, as far as it tells by itself; None when it may be."""
        if not locator or locator.startswith(DATA_LOCATOR):
            return None
        try:
            url = URL(locator)
        except ValueError as error:
            return f"it is no address: {one_line(error, 80)}"
        if url.scheme != "https" and not (self.devnet and url.scheme == "http"):
            return (
                f"locators of kind {url.scheme or locator[:20]!r} are not supported, expected {DATA_LOCATOR}… or https:"
            )
        if not url.host or url.user is not None or url.password is not None:
            return "it has to name a host, and no user"
        return None if self.devnet else refused_address(url.host)

    async def obtain(self, store: InputStore, task_id: bytes, commitment: bytes, locator: str) -> StoredInput:
        """The input of a task, fetched and kept if it is not there yet.

        UsageError when the locator or what it leads to can never be right; TemporaryError when the server may do better later.
        """
        stored = store.get(task_id)
        return stored or await store.receive(task_id, commitment, self.fetch(locator))

    async def fetch(self, locator: str) -> AsyncIterator[bytes]:
        """The bytes behind a locator; errors as `obtain`."""
        reason = self.refusal(locator)
        if reason is not None:
            raise UsageError(f"locator {locator[:60]!r}: {reason}")
        if locator.startswith(DATA_LOCATOR):
            yield _data(locator)
            return
        try:
            async with asyncio.timeout(self.timeout):
                async for piece in self._download(locator):
                    yield piece
        except TimeoutError:
            raise TemporaryError(f"locator {locator[:60]!r}: not fetched within {self.timeout:g} s") from None
        except aiohttp.InvalidURL:
            raise UsageError(f"locator {locator[:60]!r}: it is no address that can be asked") from None
        except aiohttp.ClientError as error:
            raise TemporaryError(f"locator {locator[:60]!r}: {one_line(error, 200)}") from error

    async def _download(self, locator: str) -> AsyncIterator[bytes]:
        resolver = ThreadedResolver() if self.devnet else PublicResolver()
        connector = aiohttp.TCPConnector(resolver=resolver, ssl=self.trust or True, use_dns_cache=False)
        headers = {"Accept-Encoding": "identity"}  # what was committed to are the bytes on the wire
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=timeout) as session,
            session.get(locator, headers=headers, allow_redirects=False) as response,
        ):
            if response.status != 200:
                error = TemporaryError if response.status >= 500 else UsageError
                raise error(f"locator {locator[:60]!r}: the server answers {response.status}, expected 200")
            async for piece in response.content.iter_chunked(PIECE):
                yield piece


class PublicResolver(AbstractResolver):
    """The system's resolver, but a name that has an address which is not public has none at all."""

    def __init__(self) -> None:
        self._system = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        for address in found:
            reason = refused_address(address["host"])
            if reason is not None:
                raise UsageError(f"locator on {host[:60]!r}: {reason}")
        return found

    async def close(self) -> None:
        await self._system.close()


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is one of the open internet, and leads to no private one by way of a translation."""
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in network for network in _CLOSED):
            return False
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner:
            return is_public(inner)
        if any(address in network for network in _HOLDERS):
            return is_public(ipaddress.IPv4Address(address.packed[-4:]))
    return address.is_global and not address.is_multicast


def refused_address(host: str) -> str | None:
    """Why a literal address may not be asked; names are looked at when they are resolved."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return None if is_public(address) else f"{address} is not a public address"


def _data(locator: str) -> bytes:
    try:
        return base64.b64decode(locator[len(DATA_LOCATOR) :], validate=True)
    except ValueError as error:  # binascii.Error is one, and so is what a letter beyond ASCII gives
        raise UsageError(f"locator {locator[:60]!r} is not base64: {error}") from None
