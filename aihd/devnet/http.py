"""What the devnet's HTTP surfaces share: errors in the dress of each API, query numbers, transactions in a body."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from ergo_lib_python.transaction import Transaction, UnsignedTransaction

from aihd.protocol.panics import contained

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")

# Contracts stand in paths as hex: a tree of 4 KB is a request line of 8 KB.
MAX_LINE = 64 * 1024


class HttpError(Exception):
    """An answer that is no 200: `text` is what the API's error form carries; `reason`, where the API has one and it is not the usual."""

    def __init__(self, status: int, text: str | None = None, reason: str | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.reason = status, text, reason


def found(item: T | None) -> T:
    """The item; HttpError 404 where there is none."""
    if item is None:
        raise HttpError(404)
    return item


def errors_as(form: Callable[[HttpError], dict[str, Any]], unmatched: Callable[[web.Request], HttpError]) -> Middleware:
    """A middleware that writes errors in an API's own form; `unmatched` is its answer where it has no route for a request."""

    @web.middleware
    async def write_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except HttpError as error:
            failed = error
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
            failed = unmatched(request)
        except web.HTTPRequestEntityTooLarge:
            failed = HttpError(413, "the body is larger than this devnet reads")
        return web.json_response(form(failed), status=failed.status)

    return write_errors


def query_int(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    """A number of the query string; HttpError 400 outside `least` to `most`."""
    text = request.query.get(name, str(default))
    try:
        number = int(text)
    except ValueError as error:
        raise HttpError(
            400, f"Invalid value for: query parameter {name} (expected a number, but was {text!r})"
        ) from error
    if not least <= number <= most:
        expected = f"to be in {least} to {most}, but was {number}"
        raise HttpError(400, f"Invalid value for: query parameter {name} (expected value {expected})")
    return number


def path_id(request: web.Request) -> str:
    """The id in the path."""
    return request.match_info["id"]


def flag(request: web.Request, name: str) -> bool:
    """A switch of the query string, off by default."""
    return request.query.get(name, "false").lower() == "true"


def descending(request: web.Request) -> bool:
    """The direction of the query string, newest first by default; HttpError 400 for another word."""
    direction = request.query.get("sortDirection", "desc").lower()
    if direction not in ("asc", "desc"):
        raise HttpError(400, f"Invalid value for: query parameter sortDirection (asc or desc, but was {direction!r})")
    return direction == "desc"


def items(shapes: Iterable[dict[str, Any]], total: int) -> dict[str, Any]:
    """A page as both APIs write it."""
    return {"items": list(shapes), "total": total}


def path_int(request: web.Request, name: str) -> int:
    """A number of the path, 0 or more; HttpError 400 else."""
    text = request.match_info[name]
    if not text.isdecimal():
        raise HttpError(400, f"Invalid value for: path parameter {name} (expected a number, but was {text!r})")
    return int(text)


async def json_body(request: web.Request) -> Any:
    """The body as JSON; HttpError 400 where it is none."""
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise HttpError(400, "Invalid value for: body (JSON is expected)") from error


def parse_transaction(body: Any) -> Transaction:
    """A signed transaction in node JSON; ids in it are ignored and computed, as a node does. HttpError 400 else."""
    try:
        unsigned = {
            "inputs": [{"boxId": i["boxId"], "extension": i["spendingProof"]["extension"]} for i in body["inputs"]],
            "dataInputs": [{"boxId": d["boxId"]} for d in body["dataInputs"]],
            "outputs": body["outputs"],
        }
        proofs = [bytes.fromhex(i["spendingProof"]["proofBytes"]) for i in body["inputs"]]
        return contained(lambda: Transaction.from_unsigned_tx(UnsignedTransaction.from_json(unsigned), proofs))
    except Exception as error:  # whatever ergo-lib makes of it, it is no transaction
        raise HttpError(400, "Invalid value for: body (a signed transaction is expected)") from error


async def body_text(request: web.Request) -> str:
    """A JSON string, or the bare text."""
    return (await request.text()).strip().strip('"')
