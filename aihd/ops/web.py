"""The page for operators: / for people, /healthz, /readyz, /status.json and /metrics.

Promise: it only reads (GET and HEAD, nothing else is routed), listens only where it was told, and answers only who asks for it by a name
that is an address, `localhost`, or allowed: a page in the operator's browser whose name leads here is another site's.
"""

from __future__ import annotations

import inspect
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from aihd.ops.listener import Bounds, Listener, listen, served
from aihd.text import plain_all

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
    hosts: Collection[str] = (),
) -> web.Application:
    """The application; `healthy` and `ready` answer 200 or 503, `status` gives the JSON document of /status.json.

    `hosts` are the names besides addresses and `localhost` that a request may ask for.
    """

    async def status_json(_request: web.Request) -> web.Response:
        document = status()
        return web.json_response(plain_all(await document if inspect.isawaitable(document) else document))

    page = PAGE.read_text(encoding="utf-8")

    async def dashboard(_request: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html", headers={"Content-Security-Policy": POLICY})

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application(middlewares=[_headers, _named(hosts)])
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


def _named(hosts: Collection[str]) -> Middleware:
    allowed = {"localhost", *(host.lower() for host in hosts)}

    @web.middleware
    async def named(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = _host(request.headers.get("Host", ""))
        if host not in allowed and not _is_address(host):
            raise web.HTTPMisdirectedRequest(text=f"ask by an address, or set ops.hosts to allow {host[:80]!r}\n")
        return await handler(request)

    return named


def _host(text: str) -> str:
    """The name in a Host header, without port."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].lower().rstrip(".")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@web.middleware
async def _headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
