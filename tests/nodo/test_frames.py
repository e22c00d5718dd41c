"""The frames codec over streams that nobody wrote down: any split, any nonsense."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aihd.nodo.frames import CHUNK, Decoder, FrameError, decode, encode, encode_all, parse_frame
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb.aihd_buffer_pb2 import Buffer

KINDS = {1: pb.TokenMessage, 4: pb.Metadata.HashTag.Hash}

messages = st.one_of(
    st.tuples(st.just(0), st.binary(max_size=200)),
    st.tuples(st.just(1), st.builds(lambda token: pb.TokenMessage(token=token), st.text(max_size=40))),
    st.tuples(st.just(4), st.builds(lambda value: pb.Metadata.HashTag.Hash(value=value), st.binary(max_size=80))),
)
blocks = st.builds(lambda: Buffer.Block(hashes=[Buffer.Block.Hash(type=b"t", value=b"v")]))
any_frame = st.builds(
    Buffer,
    chunk=st.none() | st.binary(max_size=20),
    separator=st.none() | st.booleans(),
    signal=st.none() | st.booleans(),
    head=st.none() | st.builds(lambda index: Buffer.Head(index=index), st.sampled_from([0, 1, 4, 7, -1])),
    block=st.none() | st.none() | st.none() | blocks,
    skip=st.none() | blocks,
)


def _split(frame: Buffer, cuts: list[int]) -> list[Buffer]:
    """The same message with its chunk in pieces and head and separator in frames of their own."""
    edges = [0, *sorted(cut % (len(frame.chunk) + 1) for cut in cuts), len(frame.chunk)]
    pieces = [Buffer(chunk=frame.chunk[start:end]) for start, end in pairwise(edges)]
    return [Buffer(head=frame.head), *pieces, Buffer(separator=True)]


def round_trip(sent: list[tuple[tuple[int, pb.TokenMessage | bytes], list[int], bool]]) -> None:
    """Messages cut anywhere, with signals between, arrive whole and in order."""
    decoder, received = Decoder(KINDS), []
    for (index, message), cuts, signal in sent:
        frames = [Buffer(signal=True)] * signal
        for frame in encode(message, index):
            frames += _split(frame, cuts)
        received += [arrived for frame in frames if (arrived := decoder.feed(frame)) is not None]
    decoder.finish()
    assert received == [message for (_, message), _, _ in sent]


def digested(frames: list[bytes]) -> None:
    """Nonsense gives messages or the codec's own error, and no more bytes than came."""
    decoder, got = Decoder(KINDS), 0
    try:
        for frame in frames:
            message = decoder.feed(parse_frame(frame))
            if message is not None:
                got += len(message if isinstance(message, bytes) else message.SerializeToString())
        decoder.finish()
    except FrameError as error:
        assert str(error)
    assert got <= sum(len(frame) for frame in frames)


cut_messages = st.lists(st.tuples(messages, st.lists(st.integers(0, 1000), max_size=4), st.booleans()), max_size=5)
serialized = any_frame.map(lambda frame: bytes(frame.SerializeToString()))
damaged = st.builds(
    lambda frame, at, byte: frame[: at % (len(frame) + 1)] + byte + frame[at % (len(frame) + 1) + 1 :],
    serialized,
    st.integers(0, 100),
    st.binary(max_size=2),
)
nonsense = st.lists(st.one_of(serialized, damaged, st.binary(max_size=30)), max_size=12)


@given(cut_messages)
def test_decoder__when__messages_are_cut_anywhere_with_signals_between__then__they_arrive_whole_and_in_order(
    sent: list[tuple[tuple[int, pb.TokenMessage | bytes], list[int], bool]],
) -> None:
    round_trip(sent)


@settings(max_examples=300)
@given(nonsense)
def test_decoder__when__frames_are_nonsense__then__messages_or_its_own_error_and_no_more_bytes_than_came(
    frames: list[bytes],
) -> None:
    digested(frames)


@pytest.mark.slow
@pytest.mark.timeout(5400)
@settings(max_examples=5_000)
@given(cut_messages)
def test_decoder__when__5000_streams_are_cut_anywhere__then__every_message_arrives_whole_and_in_order(
    sent: list[tuple[tuple[int, pb.TokenMessage | bytes], list[int], bool]],
) -> None:
    round_trip(sent)


@pytest.mark.slow
@pytest.mark.timeout(5400)
@settings(max_examples=50_000)
@given(nonsense)
def test_decoder__when__50000_streams_are_nonsense__then__none_crashes_or_hangs_it(frames: list[bytes]) -> None:
    digested(frames)


def test_decoder__when__5000_messages_are_split_at_random__then__one_stream_gives_them_all_back() -> None:
    random = Random(5)
    sent = [pb.TokenMessage(token="t" * random.randrange(300), slot=str(number)) for number in range(5000)]
    decoder, received = Decoder(KINDS), []
    for message in sent:
        (frame,) = encode(message, 1)
        cuts = [random.randrange(400) for _ in range(random.randrange(4))]
        frames = random.choice([[frame], _split(frame, cuts), [Buffer(signal=True), *_split(frame, cuts)]])
        received += [arrived for part in frames if (arrived := decoder.feed(part)) is not None]
    decoder.finish()
    assert received == sent


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_encode__when__raw_bytes_of_a_size__then__no_chunk_is_longer_than_the_limit(size: int) -> None:
    frames = list(encode(b"x" * size, 0))
    assert max(len(frame.chunk) for frame in frames) <= CHUNK
    assert all(frame.HasField("head") for frame in frames[:1])
    assert sum(len(frame.chunk) for frame in frames) == size


def test_decoder__when__message_passes_the_limit__then__refused_before_it_ends() -> None:
    decoder = Decoder(KINDS, limit=10)
    assert decoder.feed(Buffer(head=Buffer.Head(index=0), chunk=b"x" * 10)) is None
    with pytest.raises(FrameError, match="longer than 10 bytes"):
        decoder.feed(Buffer(chunk=b"x"))


@pytest.mark.asyncio
async def test_decode__when__stream_ends_inside_the_second_message__then__first_arrives_and_the_rest_is_an_error() -> (
    None
):
    async def stream() -> AsyncIterator[bytes]:
        for frame in encode_all([(1, pb.TokenMessage(token="a")), (1, pb.TokenMessage(token="b"))]):
            if frame.chunk.endswith(b"b"):
                frame.ClearField("separator")
            yield frame.SerializeToString()

    received = []
    with pytest.raises(FrameError, match="ended inside a message of index 1, after 3 bytes"):
        async for message in decode(stream(), KINDS):
            received.append(message)
    assert received == [pb.TokenMessage(token="a")]
