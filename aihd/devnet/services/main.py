"""An HTTP server around one function: POST /run calls `run(pieces)` of the module `service` beside this file.

`run` takes the request's body as an iterator of bytes and gives the answer's bytes. Python's standard library only;
memory use does not depend on the body's size. The environment says where to listen: SLOT_HOST (else everywhere)
and SLOT_8080 (else 8080).
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase

PIECE = 1 << 16


class BadRequestError(Exception):
    """The request's body cannot be read to its end."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer /run with the service's output, 400 to a broken body, 422 to an input the service refuses."""
        if self.path != "/run":
            self._answer(404, b"POST /run is all there is\n")
            return
        try:
            output = importlib.import_module("service").run(body(self.rfile, dict(self.headers)))
        except BadRequestError as error:
            self._answer(400, f"{error}\n".encode())
        except ValueError as error:
            self._answer(422, f"{error}\n".encode())
        else:
            self._answer(200, output)

    def _answer(self, status: int, content: bytes) -> None:
        self.close_connection = True  # what is left of the body is not read
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


def body(stream: BufferedIOBase, headers: dict[str, str]) -> Iterator[bytes]:
    """Pieces of a request's body, by its length or its chunks; BadRequestError when it is cut short."""
    named = {name.lower(): value for name, value in headers.items()}
    if named.get("transfer-encoding", "").lower() == "chunked":
        while size := chunk_size(stream):
            yield from exactly(stream, size)
            if stream.read(2) != b"\r\n":
                raise BadRequestError("a chunk does not end where its size says")
        return
    length = named.get("content-length", "")
    if not length.isdecimal():
        raise BadRequestError("neither Content-Length nor Transfer-Encoding: chunked")
    yield from exactly(stream, int(length))


def chunk_size(stream: BufferedIOBase) -> int:
    """Size of the next chunk; 0 at the end."""
    line = stream.readline(100)
    try:
        return int(line.split(b";")[0], 16)
    except ValueError:
        raise BadRequestError(f"chunk size {line!r}") from None


def exactly(stream: BufferedIOBase, size: int) -> Iterator[bytes]:
    """`size` bytes in pieces."""
    while size:
        piece = stream.read(min(size, PIECE))
        if not piece:
            raise BadRequestError(f"the body ended {size} bytes too early")
        size -= len(piece)
        yield piece


if __name__ == "__main__":
    address = os.environ.get("SLOT_HOST", ""), int(os.environ.get("SLOT_8080", "8080"))
    ThreadingHTTPServer(address, Handler).serve_forever()
