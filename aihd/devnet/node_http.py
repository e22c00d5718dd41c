"""Answers as a node's HTTP server does before a route sees a request, in the node's words.

A node of version 6.0.4 is meant. Its errors are `{"error": 400, "reason": "bad.request", "detail": "..."}`; what its server
has no words for (a wrong method, a number that is none) comes as 500 with the name of the server's own value.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from aiohttp import web

from aihd.devnet.http import HttpError

NOT_FOUND: Final = "The requested resource/endpoint could not be found."
WRONG_ID: Final = "Wrong modifierId format"
MALFORMED: Final = "The request content was malformed:\n"
FORBIDDEN: Final = "The supplied authentication is not authorized to access this resource"
MAX_ITEMS: Final = 16_384  # of one answer
NO_HEX: Final = "invalid characters encountered in Hex data"

_ID = re.compile(r"[0-9a-fA-F]{64}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}")
_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_LITERALS = {"n": "null", "t": "true", "f": "false"}
# Below these, some route looks at the method before the path, and a POST to an unknown path is no matter of the method any more.
_POST_FIRST = ("/blockchain", "/utxo", "/utils", "/blocks", "/wallet", "/scan")


def unmatched(request: web.Request) -> HttpError:
    """Gives the answer to a path without a route, or asked by another method."""
    if request.path.startswith("/blocks/"):
        first = request.path.split("/")[2]
        if request.method == "GET" and not _ID.fullmatch(first):
            return HttpError(400, WRONG_ID)
    if request.method == "GET" or (request.method == "POST" and request.path.startswith(_POST_FIRST)):
        return HttpError(400, NOT_FOUND)
    return HttpError(500, "Unhandled rejection: MethodRejection(HttpMethod(OPTIONS))")


def modifier_id(text: str, wrong: str = WRONG_ID) -> str:
    """An id in lower case; HttpError 400 with the text `wrong` where it is none."""
    if not _ID.fullmatch(text):
        raise HttpError(400, wrong)
    return text.lower()


def id_of(request: web.Request) -> str:
    """The id in the path."""
    return modifier_id(request.match_info["id"])


def hex_key(text: str) -> str:
    """Hex of any length in lower case, as routes take it that look nothing up before; HttpError 500 else, as a node has it."""
    hex_text(text, 500)
    return text.lower()


def hex_text(text: str, status: int, detail: str | None = None) -> bytes:
    """The bytes of a text in hex; HttpError with the status, and the reader's words unless `detail` names others."""
    if not _HEX.fullmatch(text):
        odd = f"invalid length {len(text)} of Hex data"
        raise HttpError(status, detail or (odd if len(text) % 2 else NO_HEX))
    return bytes.fromhex(text)


def number(request: web.Request, name: str, default: int, bits: int = 32) -> int:
    """A number of the query string, below 0 too; HttpError for what is none."""
    text = request.query.get(name)
    if text is None:
        return default
    value = int(text) if _NUMBER.fullmatch(text) else None
    if value is not None and -(1 << bits - 1) <= value < 1 << bits - 1:
        return value
    cause = f'Some(java.lang.NumberFormatException: For input string: "{text}")'
    raise _no_query(request, name, f"'{text}' is not a valid {bits}-bit signed integer value", cause)


def switch(request: web.Request, name: str) -> bool:
    """A switch of the query string, off by default."""
    text = request.query.get(name, "false")
    if text.lower() not in _FLAGS:
        raise _no_query(request, name, f"'{text}' is not a valid Boolean value", "None")
    return _FLAGS[text.lower()]


def height(request: web.Request, name: str) -> int:
    """A number of the path, 0 or more; what is none is no path of the node's."""
    text = request.match_info[name]
    if not (text.isascii() and text.isdecimal()) or int(text[:20]) >= 1 << 31:
        raise unmatched(request)
    return int(text)


def page(request: web.Request, limit: int, default_offset: int = 0) -> tuple[int, int]:
    """Offset and limit; both may be below 0."""
    return number(request, "offset", default_offset), number(request, "limit", limit)


def cut(whole: list[Any], offset: int, limit: int) -> list[Any]:
    """A page, with a node's meaning of numbers below 0: nothing is before the first."""
    return whole[max(0, offset) : max(0, offset + limit)]


def few(count: int, what: str) -> None:
    """HttpError 400 where more is asked for than a node gives at once."""
    if count > MAX_ITEMS:
        raise HttpError(400, f"No more than {MAX_ITEMS} {what} can be requested")


async def plain(request: web.Request) -> str:
    """The body as text, one pair of quotes around it taken away."""
    text = (await request.read()).decode("utf-8", "replace")
    return text[1:-1] if len(text) > 1 and text.startswith('"') and text.endswith('"') else text


async def entity(request: web.Request) -> Any:
    """The body as JSON; HttpError where it is of another type, empty or no JSON."""
    body = await request.read()
    if not body:
        raise HttpError(400, "Request entity expected but not supplied")
    if request.content_type != "application/json":
        supported = "Set(application/json)"
        raise HttpError(500, f"Unhandled rejection: UnsupportedRequestContentTypeRejection({supported})")
    return parsed(body)


def parsed(body: bytes) -> Any:
    """A text as JSON; HttpError 400 in the words of a node's parser."""
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise HttpError(400, MALFORMED + _unexpected(text, error)) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise HttpError(400, f"{MALFORMED}expected json value got '{text[:6]}...' (line 1, column 1)") from error


async def text_entity(request: web.Request) -> str:
    """The body as a JSON text."""
    value = await entity(request)
    if not isinstance(value, str):
        raise HttpError(400, None, reason="String: ")
    return value


async def ids_entity(request: web.Request) -> list[str]:
    """The body as a list of texts."""
    value = await entity(request)
    if not isinstance(value, list):
        raise HttpError(400, f"{MALFORMED}C[A]: ")
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise HttpError(400, f"{MALFORMED}String: {'MoveRight,' * index}DownArray")
    return value


def _no_query(request: web.Request, name: str, problem: str, cause: str) -> HttpError:
    if request.path.startswith("/blocks/"):  # a route that takes its first part for an id has words for it
        return HttpError(400, WRONG_ID)
    return HttpError(500, f"Unhandled rejection: MalformedQueryParamRejection({name},{problem},{cause})")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _unexpected(text: str, error: json.JSONDecodeError) -> str:
    if error.pos >= len(text):
        return "exhausted input"
    rest = text[error.pos : error.pos + 6]
    got = f"'{rest}...'" if error.pos + 6 < len(text) else f"'{rest}'"
    return f"expected {_LITERALS.get(rest[0], 'json value')} got {got} (line {error.lineno}, column {error.colno})"
