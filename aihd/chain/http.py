"""JSON over HTTP to chain sources: time limits, retries of reads, and servers that are preferred by how they behaved.

A server that fails rests for a while, longer each time; one that says what cannot be true rests for long, and is counted. The others are
asked meanwhile. A server that rests is asked again when no other is left: a bad answer that is recognised is better than none.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp
import stamina

from aihd.errors import TemporaryError, one_line

T = TypeVar("T")

READ_TIMEOUT: Final = 15.0  # seconds
SURVEY_TIMEOUT: Final = 5.0  # one slow server must not hold up the poll of all
FIRST_REST: Final = 0.5
LONGEST_REST: Final = 60.0
REST_OF_A_LIAR: Final = 600.0


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
    """An answer that cannot be true: a box whose id is not that of its bytes, a chain that went backwards."""


def _passing(status: int) -> bool:
    return status >= 500 or status == 429


def _retry(error: Exception) -> bool:
    return isinstance(error, SourceError) and error.passing


@dataclass(slots=True)
class Server:
    """One server and how it has behaved. `failures` are those in a row, `lies` all of them; `rests_until` is monotonic time."""

    url: str
    failures: int = 0
    lies: int = 0
    rests_until: float = 0.0
    reason: str = ""

    @property
    def rests(self) -> bool:
        return time.monotonic() < self.rests_until

    def worked(self) -> None:
        self.failures = 0

    def failed(self, reason: str) -> None:
        self.failures += 1
        self._rest(min(LONGEST_REST, FIRST_REST * 2**self.failures), reason)

    def lied(self, reason: str) -> None:
        self.lies += 1
        self._rest(REST_OF_A_LIAR, reason)

    def _rest(self, seconds: float, reason: str) -> None:
        self.rests_until = time.monotonic() + seconds
        self.reason = reason


class JsonSource:
    """Servers that answer the same JSON API. The best one of the last survey is asked first, those that rest last.

    Reads are retried for a few seconds; submits never are (see submitter.py).
    """

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        self._session = session
        self.servers = tuple(Server(url.rstrip("/")) for url in urls)
        self._best = self.servers[0]

    @property
    def url(self) -> str:
        """The server that would be asked now, to name it in messages."""
        return self._ranked()[0].url

    @property
    def rested(self) -> bool:
        """Whether there is a server that does not rest."""
        return not all(server.rests for server in self.servers)

    def demote(self, reason: str) -> LieError:
        """What the server that is asked first now said turned out untrue: it is asked after all others for a while. The error to raise."""
        server = self._ranked()[0]
        server.lied(reason)
        return LieError(f"{server.url}: {reason}")

    def blame(self, reason: str) -> SourceError:
        """What the server that is asked first now said is of no use; it rests for a while. The error to raise."""
        server = self._ranked()[0]
        server.failed(reason)
        return SourceError(f"{server.url}: {reason}")

    async def get(self, path: str, **params: str | int) -> Any:
        """The JSON at `path`; None for 404; SourceError otherwise."""
        return await self._read("GET", path, params=params)

    async def get_as(self, path: str, parse: Callable[[Any], T], **params: str | int) -> T | None:
        """As `get`, through `parse`; a server for whose answer `parse` raises LieError is demoted and another one asked."""
        found: T | None = await self._read("GET", path, params=params, parse=parse)
        return found

    @stamina.retry(on=_retry, attempts=3, timeout=10, wait_initial=0.2, wait_max=2)
    async def survey(self, path: str, parse: Callable[[Any], T], worth: Callable[[T], Any]) -> T:
        """Ask every server at once and prefer the one with the most worthy answer from now on; that answer."""
        asked = [server for server in self.servers if not server.rests] or list(self.servers)
        answers = await asyncio.gather(*(self._tried(server, path, parse) for server in asked))
        good = [
            (server, answer) for server, answer in zip(asked, answers, strict=True) if not isinstance(answer, Exception)
        ]
        if not good:
            raise next(answer for answer in answers if isinstance(answer, Exception))
        self._best, found = max(good, key=lambda pair: worth(pair[1]))  # the first of equals
        return found

    async def _tried(self, server: Server, path: str, parse: Callable[[Any], T]) -> T | SourceError:
        try:
            status, answer = await self._ask(server, "GET", path, {}, None, parse, SURVEY_TIMEOUT)
        except SourceError as error:
            return error
        return answer if status == 200 else self._unusable(server, path, status, answer)

    @stamina.retry(on=_retry, attempts=3, timeout=10, wait_initial=0.2, wait_max=2)
    async def _read(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any],
        body: Any = None,
        parse: Callable[[Any], Any] = lambda answer: answer,
    ) -> Any:
        status, answer = await self.call(method, path, params=params, body=body, parse=parse)
        if status == 404:
            return None
        if status != 200:
            raise self._unusable(self._ranked()[0], path, status, answer)
        return answer

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        parse: Callable[[Any], Any] = lambda answer: answer,
    ) -> tuple[int, Any]:
        """One request to the first server that answers it: (status, parsed JSON). SourceError when none does."""
        *others, last = self._ranked()
        for server in others:
            try:
                status, answer = await self._ask(server, method, path, params, body, parse)
            except SourceError as error:
                if not error.passing:
                    raise
                continue
            if not _passing(status):
                return status, answer
        return await self._ask(last, method, path, params, body, parse)

    def _ranked(self) -> list[Server]:
        return sorted(self.servers, key=lambda server: (server.rests, server is not self._best))

    async def _ask(
        self,
        server: Server,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: Any,
        parse: Callable[[Any], Any],
        timeout: float = READ_TIMEOUT,
    ) -> tuple[int, Any]:
        """One request to one server, and what it says of that server."""
        try:
            status, answer = await self._request(server.url, method, path, params, body, timeout)
            if status == 200:
                answer = parse(answer)
        except LieError as error:
            server.lied(one_line(error))
            raise
        except SourceError as error:
            server.failed(one_line(error))
            raise
        if _passing(status):
            server.failed(f"{path[:80]} answered {status}")
        else:
            server.worked()
        return status, answer

    async def _request(
        self, url: str, method: str, path: str, params: Mapping[str, Any] | None, body: Any, timeout: float
    ) -> tuple[int, Any]:
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._session.request(method, url + path, params=params, json=body, timeout=limit) as response:
                text = await response.text()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError) as error:
            raise SourceError(f"{url} gave no answer: {one_line(error, 150)}") from error
        try:
            return status, json.loads(text)
        except ValueError:
            # A proxy in front of an explorer answers in HTML.
            passing = status if status != 200 else None
            raise SourceError(f"{url}{path[:80]} answered {status} with no JSON: {text[:80]!r}", passing) from None

    def _unusable(self, server: Server, path: str, status: int, answer: Any) -> SourceError:
        return SourceError(
            f"{server.url}{path[:80]} answered {status}: {one_line(Exception(str(answer)), 200)}", status
        )
