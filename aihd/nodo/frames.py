"""bee-rpc framing: protobuf messages to `Buffer` frames and back, without I/O.

Encoding gives the bytes that nodo's own library gives (except that it splits a small message in three when a bytes
field happens to parse as a block pointer, which no receiver needs). Decoding accepts every form that library sends, and
is stricter where it would guess: a message that ended without separator, a frame without data inside a message, a
second head and block pointers are errors here, never a shorter or joined message. An empty body is the default message
of its index, because a frame did arrive, where the library shows nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Mapping

from google.protobuf.message import DecodeError, Message

from aihd.errors import DependencyError
from aihd.nodo.pb.aihd_buffer_pb2 import Buffer

CHUNK = 1 << 20
"""Bytes: a body below goes in one frame, a longer one in pieces of this size."""

MAX_MESSAGE = 64 << 20
"""Bytes of one message that a `Decoder` collects unless told otherwise."""

RAW = 0
"""Index of plain bytes; every stream may carry them."""


class FrameError(DependencyError):
    """The peer sent frames that are not bee-rpc as nodo speaks it."""


def encode(message: Message | bytes, index: int) -> Iterator[Buffer]:
    """Frames of one message; `index` is its number in the method's table, and `RAW` for plain bytes."""
    body = message if isinstance(message, bytes) else message.SerializeToString()
    # Index 0 needs a head that is present though empty: without one the receiver would take index 1.
    head = Buffer.Head(index=index)
    if len(body) < CHUNK:
        yield Buffer(chunk=body, head=head, separator=True)
        return
    yield Buffer(head=head)
    for start in range(0, len(body), CHUNK):
        yield Buffer(chunk=body[start : start + CHUNK])
    yield Buffer(separator=True)


class Decoder:
    """Puts messages together from the frames of one direction of one call.

    `indices` maps an index to its message class. A body longer than `limit` bytes is an error as soon as it is.
    """

    def __init__(self, indices: Mapping[int, type[Message]], *, limit: int = MAX_MESSAGE) -> None:
        self._indices = indices
        self._limit = limit
        self._index: int | None = None  # None: between messages
        self._body = bytearray()

    def feed(self, frame: Buffer) -> Message | bytes | None:
        """The message that this frame completes, if it does; FrameError when the stream is broken."""
        if frame.HasField("block"):
            raise FrameError("the peer sent a block pointer; only whole messages are understood")
        if frame.HasField("skip") and not (frame.chunk or frame.HasField("head") or frame.separator):
            return None  # says which block the peer holds: about the other direction, no part of a message
        if self._index is None:
            if not (frame.HasField("chunk") or frame.HasField("head")):
                return None  # back-pressure, or a separator too many
            self._index = self._open(frame)
        elif frame.HasField("head"):
            raise FrameError(f"a head inside a message of index {self._index}: its separator is missing")
        elif not frame.HasField("chunk") and not frame.separator:
            raise FrameError(f"a frame without data inside a message of index {self._index}")
        self._collect(frame.chunk)
        return self._close(self._index) if frame.separator else None

    def finish(self) -> None:
        """Call at the end of the stream; FrameError when it ended inside a message."""
        if self._index is not None:
            raise FrameError(f"the stream ended inside a message of index {self._index}, after {len(self._body)} bytes")

    def _open(self, frame: Buffer) -> int:
        if not frame.HasField("head"):
            return 1 if 1 in self._indices else RAW
        if frame.head.index != RAW and frame.head.index not in self._indices:
            raise FrameError(f"a message of index {frame.head.index}, this call knows {sorted({RAW, *self._indices})}")
        return frame.head.index

    def _collect(self, chunk: bytes) -> None:
        if len(self._body) + len(chunk) > self._limit:
            raise FrameError(f"a message longer than {self._limit} bytes")
        self._body += chunk

    def _close(self, index: int) -> Message | bytes:
        body, self._body, self._index = bytes(self._body), bytearray(), None
        if index not in self._indices:
            return body
        message = self._indices[index]()
        try:
            message.ParseFromString(body)
        except DecodeError as error:
            raise FrameError(f"{len(body)} bytes of index {index} are no {message.DESCRIPTOR.full_name}") from error
        return message


async def decode(
    frames: AsyncIterable[bytes], indices: Mapping[int, type[Message]], *, limit: int = MAX_MESSAGE
) -> AsyncGenerator[Message | bytes, None]:
    """The messages of a stream of serialized frames, each as soon as it is complete; FrameError as from `Decoder`."""
    decoder = Decoder(indices, limit=limit)
    async for data in frames:
        # Not left to grpc.aio: its stream gives None for what a deserializer refuses.
        message = decoder.feed(parse_frame(data))
        if message is not None:
            yield message
    decoder.finish()


def parse_frame(data: bytes) -> Buffer:
    """One frame of its bytes; FrameError when they are none."""
    try:
        return Buffer.FromString(data)
    except DecodeError as error:
        raise FrameError(f"{len(data)} bytes are no frame") from error


def encode_all(messages: Iterable[tuple[int, Message | bytes]]) -> Iterator[Buffer]:
    """Frames of several messages, given as (index, message) in the order they are to arrive."""
    for index, message in messages:
        yield from encode(message, index)
