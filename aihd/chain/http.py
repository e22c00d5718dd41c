"""JSON over HTTP to chain sources: bounded answers, time limits, retries of reads, and servers that are preferred by how they behaved.

A server that fails rests for a while, longer each time; one that is of no use for one question is passed over for that question; one that
says what cannot be true rests for long, and is counted. The others are asked meanwhile. A server that rests is asked again when no other
is left: a bad answer that is recognised is better than none. Whatever a server sends, the only error that leaves here is SourceError.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NoReturn, TypeVar

import aiohttp
import stamina

from aihd.errors import TemporaryError, one_line
from aihd.protocol.shapes import ShapeError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Page = Callable[[int], Awaitable[tuple[list[dict[str, Any]], int | None]]]

READ_TIMEOUT: Final = 10.0  # seconds
SURVEY_TIMEOUT: Final = 5.0  # one slow server must not hold up the poll of all
FIRST_REST: Final = 0.5
LONGEST_REST: Final = 60.0
REST_OF_A_LIAR: Final = 600.0

MAX_LISTED: Final = 100_000
"""Boxes of one list. Each costs its maker a thousandth of an ERG or more."""
SMALL: Final = 1 << 18
"""Bytes of an answer, packed and unpacked, that holds one thing. Lists and blocks are given more."""
LARGE: Final = 1 << 23
BLOCK: Final = 1 << 24
_WEIGHT: Final = 4
"""Memory that parsed JSON may take, by byte allowed: some bytes of brackets would become a hundred times as many."""


class SourceError(TemporaryError):
    """A chain source gave no usable answer; `status` is the HTTP status, or None when none came."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def passing(self) -> bool:
        """Worth asking again at once: no answer, a server error, or too many requests."""
        return self.status is None or _passing(self.status)


class LieError(SourceError):
    """An answer that cannot be true: a box whose id is not that of its bytes, a header without its work."""


class UnfitError(SourceError):
    """A server answers, but not this question: a route that it refuses, JSON of another shape, more than it may send."""

    @property
    def passing(self) -> bool:
        return False


def _passing(status: int) -> bool:
    return status >= 500 or status == 429


def is_passing(error: Exception) -> bool:
    """Whether asking again at once may help."""
    return isinstance(error, SourceError) and error.passing


@dataclass(slots=True)
class Rest:
    """Until when (monotonic time) something is not asked, why, and how many failures in a row led to it."""

    until: float = 0.0
    reason: str = ""
    failures: int = 0

    @property
    def lasts(self) -> bool:
        return time.monotonic() < self.until

    def failed(self, reason: str) -> None:
        self.failures += 1
        self.rest(min(LONGEST_REST, FIRST_REST * 2 ** min(self.failures, 20)), reason)

    def rest(self, seconds: float, reason: str) -> None:
        self.until = time.monotonic() + seconds
        self.reason = reason


@dataclass(slots=True)
class Server:
    """One server and how it has behaved. `lies` are all of them; `unfit` are the questions that it was of no use for."""

    url: str
    lies: int = 0
    whole: Rest = field(default_factory=Rest)
    unfit: dict[str, Rest] = field(default_factory=dict)

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self.whole.failures

    @property
    def reason(self) -> str:
        """Why it rests, or rested last."""
        return self.whole.reason

    @property
    def rests_until(self) -> float:
        """Monotonic time."""
        return self.whole.until

    @property
    def rests(self) -> bool:
        return self.whole.lasts

    def rests_for(self, about: str) -> bool:
        """Whether it is asked last for a kind of question."""
        return self.rests or (about in self.unfit and self.unfit[about].lasts)

    def worked(self, about: str = "") -> None:
        self.whole.failures = 0
        self.unfit.pop(about, None)

    def failed(self, reason: str) -> None:
        self.whole.failed(reason)

    def is_unfit(self, about: str, reason: str) -> None:
        """It is of no use for a kind of question now."""
        self.unfit.setdefault(about, Rest()).failed(reason)

    def lied(self, reason: str) -> None:
        self.lies += 1
        self.whole.rest(REST_OF_A_LIAR, reason)

    @property
    def unfit_now(self) -> list[str]:
        """The questions that it is passed over for now, each with the reason."""
        return [f"{about}: {rest.reason}" for about, rest in self.unfit.items() if rest.lasts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask(Generic[T_co]):
    """One question: where, what `parse` makes of the JSON, what it is about (a server may be unfit for that), and how much may come.

    `parse` raises ShapeError for JSON of another shape, LieError for what cannot be true.
    """

    path: str
    parse: Callable[[Any], T_co]
    about: str
    method: str = "GET"
    params: Mapping[str, str | int] = field(default_factory=dict)
    body: Any = None
    most: int = SMALL
    patience: float = READ_TIMEOUT


class JsonSource:
    """Servers that answer the same JSON API. The best one of the last survey is asked first, those that rest last.

    Reads are retried for a few seconds; submits never are (see submitter.py).
    """

    kind = "source"
    about = ""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        self._session = session
        self.servers = tuple(Server(url.rstrip("/")) for url in urls)
        self._best = self.servers[0] if self.servers else None

    @property
    def url(self) -> str:
        """The server that would be asked now, to name it in messages."""
        ranked = self.ranked()
        return ranked[0].url if ranked else f"no {self.kind}"

    @property
    def rested(self) -> bool:
        """Whether there is a server that does not rest."""
        return not all(server.rests for server in self.servers)

    def ranked(self, about: str = "") -> list[Server]:
        """The servers in the order in which they are asked about something."""
        able = [server for server in self.servers if self.able(server, about)]
        return sorted(able, key=lambda server: (server.rests_for(about), server is not self._best))

    def able(self, server: Server, about: str) -> bool:
        """Whether a server may know something of that kind at all."""
        return True

    # -- questions

    async def ask(self, ask: Ask[T]) -> T | None:
        """The first useful answer; None for 404. SourceError when no server has one."""
        return await self.from_one(ask.about, lambda server: self.of(server, ask))

    async def anywhere(self, ask: Ask[T]) -> T | None:
        """The first server's answer that has what is asked for; None when none has it, SourceError when none answers."""

        async def found(server: Server) -> T:
            answer = await self.of(server, ask)
            if answer is None:
                raise MissingError(f"{server.url}{ask.path[:80]}: not there", 404)
            return answer

        try:
            return await self.from_one(ask.about, found)
        except MissingError:
            return None

    @stamina.retry(on=is_passing, attempts=3, timeout=10, wait_initial=0.2, wait_max=2)
    async def from_one(self, about: str, work: Callable[[Server], Awaitable[T]]) -> T:
        """What `work` gets from one server, the next one being tried where it raises SourceError; the most telling of these errors."""
        errors: list[SourceError] = []
        for server in self.ranked(about):
            try:
                return await work(server)
            except SourceError as error:
                errors.append(error)
        if not errors:
            raise SourceError(f"there is no {self.kind} that could be asked about {about}", 404)
        missing = [error for error in errors if isinstance(error, MissingError)]
        raise missing[0] if missing else next((error for error in errors if error.passing), errors[0])

    async def of(self, server: Server, ask: Ask[T]) -> T | None:
        """One answer of one server, None for 404; and what it says of that server. SourceError where it is of no use."""
        try:
            status, answer = await self._request(server, ask)
            if status == 404:
                found = None
            elif status != 200:
                _refused(server, ask, status, answer)
            else:
                found = ask.parse(answer)
        except LieError as error:
            server.lied(one_line(error))
            raise
        except (UnfitError, ShapeError) as error:
            reason = one_line(error, 200)
            server.is_unfit(ask.about, reason)
            if isinstance(error, UnfitError):
                raise
            raise UnfitError(f"{server.url}{ask.path[:80]} answers in another shape: {reason}", 200) from None
        except SourceError as error:
            server.failed(one_line(error))
            raise
        server.worked(ask.about)
        return found

    @contextmanager
    def _blamed(self, server: Server, about: str) -> Iterator[None]:
        """What is found wrong in an answer after it was taken is the server's fault as if it had been seen at once."""
        try:
            yield
        except LieError as error:
            server.lied(one_line(error))
            raise
        except ShapeError as error:
            server.is_unfit(about, one_line(error, 200))
            raise UnfitError(f"{server.url} answers in another shape: {one_line(error, 200)}", 200) from None

    async def paged(
        self, server: Server, about: str, path: str, page: Page, size: int
    ) -> AsyncIterator[dict[str, Any]]:
        """The boxes of all pages of a list in JSON, each once: they may move between pages while they are read.

        `page` gives what is at an offset, each with its `boxId`, and the total if one is told. SourceError where there is no end, and where
        fewer come than are counted: half a list would hide what we own and owe.
        """
        seen: set[str] = set()
        offset, total, count = 0, None, size
        while count == size:
            items, total = await page(offset)
            fresh = [raw for raw in items if raw["boxId"] not in seen]
            if len(items) > size:
                self.no_use(server, f"{path[:80]} has {len(items)} boxes on a page, {size} were asked for", about)
            if items and not fresh:
                self.no_use(server, f"{path[:80]} has pages without end", about)
            for raw in fresh:
                if raw["boxId"] not in seen:
                    seen.add(raw["boxId"])
                    yield raw
            if len(seen) > MAX_LISTED:
                self.no_use(server, f"{path[:80]} has more than {MAX_LISTED} boxes", about)
            count, offset = len(items), offset + size
        if total is not None and len(seen) < total:
            self.no_use(server, f"{path[:80]} shows {len(seen)} of the {total} boxes that it counts", about)

    def no_use(self, server: Server, reason: str, about: str = "") -> NoReturn:
        """Pass over a server for a while, and say why by an UnfitError; by default for what this source is asked mostly."""
        server.is_unfit(about or self.about, reason)
        raise UnfitError(f"{server.url}: {reason}", 200)

    async def each(self, ask: Ask[T]) -> list[tuple[Server, T]]:
        """The answers of all servers that do not rest (of all, if all do), in their order; SourceError when there is none."""
        asked = [server for server in self.servers if not server.rests] or list(self.servers)
        answers = await asyncio.gather(*(self._tried(server, ask) for server in asked))
        good = [(server, found) for server, (found, _) in zip(asked, answers, strict=True) if found is not None]
        if not good:
            errors = [error for _, error in answers if error is not None]
            raise errors[0] if errors else SourceError(f"there is no {self.kind} that could be asked", 404)
        return good

    async def _tried(self, server: Server, ask: Ask[T]) -> tuple[T | None, SourceError | None]:
        try:
            return await self.of(server, ask), None
        except SourceError as error:
            return None, error

    # -- plain JSON, for those who look at single fields

    async def get(self, path: str, **params: str | int) -> Any:
        """The JSON at `path`; None for 404; SourceError otherwise."""
        return await self.get_as(path, lambda raw: raw, **params)

    async def get_as(self, path: str, parse: Callable[[Any], T], **params: str | int) -> T | None:
        """As `get`, through `parse` (see `Ask`)."""
        about = path.strip("/").split("/")[0]
        return await self.ask(Ask(path=path, parse=parse, about=about, params=params, most=LARGE))

    async def call(self, method: str, path: str, *, body: Any = None) -> tuple[int, Any]:
        """One request to the first server that answers it, never repeated: (status, JSON). SourceError when none does."""
        ask: Ask[Any] = Ask(
            path=path, parse=lambda raw: raw, about=path, method=method, body=body, patience=READ_TIMEOUT
        )
        *others, last = self.ranked()
        for server in others:
            try:
                status, answer = await self.call_one(server, ask)
            except SourceError:
                continue
            if not _passing(status):
                return status, answer
        return await self.call_one(last, ask)

    async def call_one(self, server: Server, ask: Ask[Any]) -> tuple[int, Any]:
        """One request to one server: (status, JSON), whatever the status. SourceError when no answer comes that can be read."""
        try:
            status, answer = await self._request(server, ask)
        except SourceError as error:
            server.failed(one_line(error))
            raise
        if _passing(status):
            server.failed(f"{ask.path[:80]} answered {status}")
        else:
            server.worked(ask.about)
        return status, answer

    # -- the wire

    async def _request(self, server: Server, ask: Ask[Any]) -> tuple[int, Any]:
        limit = aiohttp.ClientTimeout(total=ask.patience)
        try:
            async with self._session.request(
                ask.method,
                server.url + ask.path,
                params=ask.params,
                json=ask.body,
                timeout=limit,
                allow_redirects=False,
                auto_decompress=False,
                headers={"Accept-Encoding": "gzip"},
            ) as response:
                status = response.status
                body = await _body(server, ask, response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # ValueError: aiohttp's own, for headers and addresses that are none.
            raise SourceError(f"{server.url} gave no answer: {one_line(error, 150)}") from error
        return status, _json(server, ask, status, body)


class MissingError(SourceError):
    """A server does not have it; another may."""

    @property
    def passing(self) -> bool:
        return False


def _refused(server: Server, ask: Ask[Any], status: int, answer: Any) -> NoReturn:
    text = f"{server.url}{ask.path[:80]} answered {status}: {one_line(Exception(str(answer)), 200)}"
    raise SourceError(text, status) if _passing(status) else UnfitError(text, status)


async def _body(server: Server, ask: Ask[Any], response: aiohttp.ClientResponse) -> bytes:
    """The body, unpacked; UnfitError as soon as it is more than asked for, in either form."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > ask.most:
            response.close()
            raise UnfitError(f"{server.url}{ask.path[:80]} sends more than {ask.most} bytes", response.status)
        parts.append(part)
    packing = response.headers.get("Content-Encoding", "identity").strip().lower()
    if packing in ("identity", ""):
        return b"".join(parts)
    if packing not in ("gzip", "x-gzip", "deflate"):
        raise UnfitError(f"{server.url}{ask.path[:80]} packs its answer by {packing[:20]!r}", response.status)
    return _unpacked(server, ask, b"".join(parts))


def _unpacked(server: Server, ask: Ask[Any], packed: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=47)  # gzip or zlib, by its head
    try:
        body = unpacker.decompress(packed, ask.most + 1)
    except zlib.error as error:
        raise SourceError(f"{server.url}{ask.path[:80]} is packed wrongly: {one_line(error, 80)}") from None
    if len(body) > ask.most:
        raise UnfitError(f"{server.url}{ask.path[:80]} sends more than {ask.most} bytes, packed", 200)
    if not unpacker.eof:
        raise SourceError(f"{server.url}{ask.path[:80]} is packed, and breaks off")
    return body


def _json(server: Server, ask: Ask[Any], status: int, body: bytes) -> Any:
    weight = 64 * (body.count(b"[") + body.count(b"{")) + 28 * body.count(b'"') + 8 * body.count(b",")
    if weight > _WEIGHT * max(ask.most, SMALL):
        raise UnfitError(f"{server.url}{ask.path[:80]} sends JSON of too many parts", status)
    try:
        return json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        # A proxy in front of an explorer answers in HTML.
        text = f"{server.url}{ask.path[:80]} answered {status} with no JSON: {body[:80]!a}"
        if status in (200, *range(500, 600), 429):
            raise SourceError(text, status if status != 200 else None) from None
        raise UnfitError(text, status) from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
