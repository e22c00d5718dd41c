"""The page for operators: / for people, /healthz, /readyz, /status.json and /metrics.

Promise: it only reads (GET and HEAD, nothing else is routed), and listens only where it was told.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from aihd.ops.listener import Bounds, Listener, listen, served

Status = Mapping[str, Any]
PAGE: Final = Path(__file__).with_name("dashboard.html")
# The page is one file and asks nobody but us; what stands in it cannot be made to.
POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Health:
    """The answer to one question about the daemon: yes or no, and one sentence why."""

    ok: bool
    verdict: str


def ops_app(
    *,
    healthy: Callable[[], Health],
    ready: Callable[[], Health],
    status: Callable[[], Status | Awaitable[Status]],
    registry: CollectorRegistry,
) -> web.Application:
    """The application; `healthy` and `ready` answer 200 or 503, `status` gives the JSON document of /status.json."""

    async def status_json(_request: web.Request) -> web.Response:
        document = status()
        return web.json_response(await document if inspect.isawaitable(document) else document)

    page = PAGE.read_text(encoding="utf-8")

    async def dashboard(_request: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html", headers={"Content-Security-Policy": POLICY})

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application(middlewares=[_headers])
    app.router.add_get("/", dashboard)
    app.router.add_get("/healthz", _answer(healthy))
    app.router.add_get("/readyz", _answer(ready))
    app.router.add_get("/status.json", status_json)
    app.router.add_get("/metrics", metrics)
    return app


@asynccontextmanager
async def serve(
    app: web.Application, host: str, port: int, key: str = "ops.listen", bounds: Bounds | None = None
) -> AsyncIterator[int]:
    """Serve `app` on the address while the block runs; gives the bound port (port 0 picks a free one).

    `key` is the setting that named the address, `bounds` what its users may take. TemporaryError when the port is in use, ConfigError
    when the address cannot be listened on at all.
    """
    sockets, listener = await listen(host, port, key), Listener(bounds or Bounds())
    app.middlewares.insert(0, listener.middleware())
    async with served(app, sockets, listener):
        yield int(sockets[0].getsockname()[1])


def _answer(question: Callable[[], Health]) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        health = question()
        return web.json_response({"ok": health.ok, "verdict": health.verdict}, status=200 if health.ok else 503)

    return answer


@web.middleware
async def _headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
