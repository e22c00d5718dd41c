"""Thousands of odd requests against both APIs: each is answered soon, in the API's own form, and never in Python's words."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import pytest
from devnet_wallet import ERG, Client, connected, funded, key, pay
from yarl import URL

from aihd.devnet.explorer_api import explorer_app
from aihd.devnet.faults import Faults
from aihd.devnet.node_api import Operator, node_app

A, B = key(1), key(2)
PATIENCE: Final = 20.0  # seconds for one answer on a busy machine
PYTHON: Final = re.compile(
    r"Traceback|\w+Error\b|(?<!Format)(?<!IO)Exception:|object has no attribute|<class|NoneType|subscriptable|not supported between|"
    r"positional argument|unhashable|codec can't|invalid literal|Panic|thread '|\.py\b|0x[0-9a-f]{8,}"
)
SPECIAL: Final = (
    "-1",
    "0",
    "1",
    "2147483647",
    "2147483648",
    "9" * 30,
    "1e9",
    "x",
    "",
    " ",
    "%00",
    "%ff",
    "%C3%BC",
    "..",
    "a" * 3000,
    "%D9%A3",
)
STREAMS: Final = ("/stream", "/mempool/boxes/unspent")


@dataclass(frozen=True, slots=True)
class Odd:
    """One request."""

    method: str
    url: str
    body: bytes | None
    kind: str


class Maker:
    """Makes requests out of the routes that an API has, and of what a chain holds."""

    def __init__(self, client: Client, seed: int) -> None:
        self._random = random.Random(seed)
        self._bases = {
            client.devnet.node_url: _routes(node_app(client.chain, Faults(), Operator())),
            client.devnet.explorer_url: _routes(explorer_app(client.chain, Faults())),
        }
        box = client.chain.unconfirmed_view(str(funded(client.chain, A).box_id))
        assert box is not None
        self._tx = json.loads(pay(client.chain, A, box.box, B.tree, ERG).json())
        tip = client.chain.tip.block_id
        self._words = (
            box.box_id,
            box.tx_id,
            tip,
            A.address,
            A.tree.hex(),
            "00",
            "0008cd",
            "zz",
            "1904ffffffff",
            *SPECIAL,
        )

    def odd(self) -> Odd:
        base = self._random.choice(list(self._bases))
        method, path = self._random.choice(self._bases[base])
        path = re.sub(r"\{[^}]*\}", lambda _: self._random.choice(self._words), path)
        if self._random.random() < 0.1:
            path += "/" + self._random.choice(self._words)
        if self._random.random() < 0.15:
            method = self._random.choice(("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"))
        body = self._body() if method != "GET" or self._random.random() < 0.05 else None
        kind = self._random.choice(
            ("application/json", "application/json", "application/json", "text/plain", "", "x/y; charset=q")
        )
        return Odd(method, base + path + self._query(), body, kind)

    def _query(self) -> str:
        names = (
            "offset",
            "limit",
            "sortDirection",
            "fromHeight",
            "toHeight",
            "includeUnconfirmed",
            "bins",
            "txSize",
            "minGix",
            "query",
        )
        chosen = self._random.sample(names, self._random.choice((0, 0, 1, 2, 4)))
        return ("?" if chosen else "") + "&".join(f"{name}={self._random.choice(SPECIAL)}" for name in chosen)

    def _body(self) -> bytes:
        makers: tuple[Callable[[], bytes], ...] = (
            lambda: json.dumps(self._bent(self._tx)).encode(),
            lambda: json.dumps(self._bent(self._tx)).encode(),
            lambda: json.dumps(self._value(3)).encode(),
            lambda: json.dumps(self._random.choice(self._words)).encode(),
            lambda: self._random.randbytes(self._random.choice((0, 1, 40))),
            lambda: b"[" * self._random.choice((1, 3, 100_000)),
            lambda: b'{"a":' + b"9" * 10_000 + b"}",
            lambda: json.dumps(self._tx).encode()[: self._random.randrange(400)],
            lambda: b'"\\ud800"',
        )
        return self._random.choice(makers)()

    def _bent(self, whole: Any) -> Any:
        """A copy with one place of it changed."""
        if isinstance(whole, dict) and whole and self._random.random() < 0.85:
            name = self._random.choice(list(whole))
            rest = {each: item for each, item in whole.items() if each != name or self._random.random() < 0.9}
            return {**rest, name: self._bent(whole[name])} if name in rest else rest
        if isinstance(whole, list) and whole and self._random.random() < 0.85:
            place = self._random.randrange(len(whole))
            return [*whole[:place], self._bent(whole[place]), *whole[place + self._random.randrange(2) :]]
        return self._value(2)

    def _value(self, depth: int) -> Any:
        plain = (
            None,
            True,
            -1,
            0,
            1,
            2**31,
            2**63,
            -(2**63) - 1,
            10**40,
            0.5,
            1e300,
            float("nan"),
            "\ud800",
            *self._words,
        )
        if depth and self._random.random() < 0.4:
            return [self._value(depth - 1) for _ in range(self._random.randrange(4))]
        if depth and self._random.random() < 0.4:
            names = (
                "R4",
                "R9",
                "boxId",
                "0",
                "300",
                "assets",
                "secrets",
                "dlog",
                "tx",
                "ergoTreeTemplateHash",
                "registers",
                "hashed",
            )
            return {self._random.choice(names): self._value(depth - 1) for _ in range(self._random.randrange(4))}
        return self._random.choice(plain)


def _routes(app: aiohttp.web.Application) -> list[tuple[str, str]]:
    return [
        (route.method.replace("*", "POST"), route.resource.canonical) for route in app.router.routes() if route.resource
    ]


async def _wrong(session: aiohttp.ClientSession, odd: Odd) -> str | None:
    """What is wrong with the answer to a request; None where nothing is."""
    headers = {"Content-Type": odd.kind, "api_key": "hello"} if odd.kind else {"api_key": "hello"}
    try:
        url = URL(odd.url.replace(" ", "%20"), encoded=True)
        async with session.request(odd.method, url, data=odd.body, headers=headers) as answer:
            status, raw = answer.status, await answer.read()
    except TimeoutError:
        return "no answer"
    except aiohttp.ClientResponseError as error:
        return f"an answer that is none: {error}"
    if odd.method in ("HEAD", "OPTIONS") or (status == 200 and any(part in odd.url for part in STREAMS)):
        return None
    if status == 400 and raw.startswith(b"400: Bad Request") and b"\x00" not in raw:
        return None  # no HTTP at all: the server never asks the application
    try:
        told = json.loads(raw)
    except ValueError:
        return f"{status} and no JSON: {raw[:100]!r}"
    if status >= 400 and not (isinstance(told, dict) and status in (told.get("error"), told.get("status"))):
        return f"{status} in no form of the API's: {told!r:.100}"
    return f"{status} in Python's words: {raw[:300]!r}" if status >= 400 and PYTHON.search(raw.decode()) else None


async def _try_many(seed: int, count: int) -> None:
    async with connected() as client:
        maker, found = Maker(client, seed), dict[str, Odd]()
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for _ in range(count // 20):
                some = [maker.odd() for _ in range(20)]
                for odd, wrong in zip(some, await asyncio.gather(*(_wrong(session, odd) for odd in some)), strict=True):
                    if wrong:
                        found.setdefault(wrong[:60], odd)
        assert not found, "\n".join(f"{wrong}: {odd!r:.600}" for wrong, odd in found.items())
        assert (await client.node("/info")).status == 200
        client.chain.mine()


@pytest.mark.asyncio
async def test_apis__asked_oddly_a_thousand_times__answer_in_their_own_words() -> None:
    await _try_many(1, 1_000)


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(2, 12))
async def test_apis__asked_oddly_twenty_thousand_times__answer_in_their_own_words(seed: int) -> None:
    await _try_many(seed, 2_000)
