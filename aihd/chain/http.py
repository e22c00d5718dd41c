"""JSON over HTTP to a chain source: time limits, retries of reads, and one error class that says what went wrong where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
import stamina

from aihd.errors import TemporaryError, one_line

READ_TIMEOUT: Final = aiohttp.ClientTimeout(total=15)


class SourceError(TemporaryError):
    """A chain source gave no usable answer; `status` is the HTTP status, or None when none came."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def passing(self) -> bool:
        """Worth asking again at once: no answer, a server error, or too many requests."""
        return self.status is None or _passing(self.status)


def _passing(status: int) -> bool:
    return status >= 500 or status == 429


def _retry(error: Exception) -> bool:
    return isinstance(error, SourceError) and error.passing


class JsonSource:
    """Servers that answer the same JSON API: the first that answers is asked.

    Reads are retried for a few seconds; submits never are (see submitter.py).
    """

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        self._session = session
        self._urls = tuple(url.rstrip("/") for url in urls)

    @property
    def url(self) -> str:
        """The preferred server, to name it in messages."""
        return self._urls[0]

    async def get(self, path: str, **params: str | int) -> Any:
        """The JSON at `path`; None for 404; SourceError otherwise."""
        return await self._read("GET", path, params=params)

    async def read_by_post(self, path: str, body: Any, **params: str | int) -> Any:
        """A POST that changes nothing: retried like a read."""
        return await self._read("POST", path, params=params, body=body)

    @stamina.retry(on=_retry, attempts=3, timeout=10, wait_initial=0.2, wait_max=2)
    async def _read(self, method: str, path: str, *, params: Mapping[str, Any], body: Any = None) -> Any:
        status, answer = await self.call(method, path, params=params, body=body)
        if status == 404:
            return None
        if status != 200:
            raise SourceError(
                f"{self.url}{path[:80]} answered {status}: {one_line(Exception(str(answer)), 200)}", status
            )
        return answer

    async def call(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, body: Any = None
    ) -> tuple[int, Any]:
        """One request to the first server that answers it: (status, JSON). SourceError when none does."""
        *others, last = self._urls
        for url in others:
            try:
                status, answer = await self._call(url, method, path, params, body)
            except SourceError as error:
                if not error.passing:
                    raise
                continue
            if not _passing(status):
                return status, answer
        return await self._call(last, method, path, params, body)

    async def _call(
        self, url: str, method: str, path: str, params: Mapping[str, Any] | None, body: Any
    ) -> tuple[int, Any]:
        try:
            async with self._session.request(
                method, url + path, params=params, json=body, timeout=READ_TIMEOUT
            ) as response:
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
