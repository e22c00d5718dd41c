"""The frames codec against byte streams recorded from nodo's own library (bee_golden.json)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from aihd.nodo.frames import Decoder, FrameError, encode
from aihd.nodo.pb.aihd_buffer_pb2 import Buffer, Empty

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "bee_golden.json").read_text())
Case = dict[str, Any]
FIELD = descriptor_pb2.FieldDescriptorProto


def _types() -> Mapping[str, type[Message]]:
    """The messages of `golden_proto`, made without a compiler."""
    fields = {
        "Token": [("token", FIELD.TYPE_STRING), ("slot", FIELD.TYPE_STRING)],
        "Blob": [("body", FIELD.TYPE_BYTES)],
        "Pair": [("key", FIELD.TYPE_STRING), ("value", FIELD.TYPE_INT64)],
    }
    file = descriptor_pb2.FileDescriptorProto(name="golden.proto", package="golden", syntax="proto3")
    for name, declared in fields.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(declared, 1):
            message.field.add(name=field, number=number, type=kind, label=FIELD.LABEL_OPTIONAL)
    file.message_type[0].oneof_decl.add(name="_slot")
    file.message_type[0].field[1].oneof_index = 0
    file.message_type[0].field[1].proto3_optional = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made = {
        f"golden.{name}": message_factory.GetMessageClass(pool.FindMessageTypeByName(f"golden.{name}"))
        for name in fields
    }
    return {**made, "buffer.Empty": Empty}


TYPES = _types()


def _pattern(length: int) -> bytes:
    return b"\xff" * 16 + bytes(position % 251 for position in range(16, length))


def _message(spec: Case) -> Message | bytes:
    kind = spec["type"]
    if kind == "bytes":
        return bytes.fromhex(spec["serialized_hex"]) if "serialized_hex" in spec else _pattern(_length(spec))
    message = TYPES[kind]()
    if "token_letter_a_count" in spec:
        message.token = "a" * spec["token_letter_a_count"]  # type: ignore[attr-defined]
    elif "body_pattern_length" in spec:
        message.body = _pattern(_length(spec))  # type: ignore[attr-defined]
    else:
        message.ParseFromString(bytes.fromhex(spec["serialized_hex"]))
    return message


def _length(spec: Case) -> int:
    return int(spec["body_pattern_length"])


def _decode(frames: list[bytes], indices: Mapping[str, str]) -> Iterator[bytes]:
    decoder = Decoder({int(index): TYPES[name] for index, name in indices.items() if index != "0"})
    for data in frames:
        message = decoder.feed(Buffer.FromString(data))
        if message is not None:
            yield message if isinstance(message, bytes) else message.SerializeToString()
    decoder.finish()


def _same(body: bytes, spec: Case) -> bool:
    if "serialized_hex" in spec:
        return bool(body.hex() == spec["serialized_hex"])
    return bool(hashlib.sha3_256(body).hexdigest() == spec["serialized_sha3_256"])


def _encoded(case: Case) -> list[bytes]:
    indices = case["indices"] or case["parse_indices"]
    number = {name: int(index) for index, name in indices.items()} | {"bytes": 0}
    specs = case["input"] or [{"type": "buffer.Empty", "serialized_hex": ""}]
    pairs = [(_message(spec), number[spec["type"]]) for spec in specs]
    return [frame.SerializeToString() for message, index in pairs for frame in encode(message, index)]


ENCODE = [case for case in GOLDEN["encode_cases"] if not case["encode_error"] and not case["name"].startswith("file_")]
EXACT = [case for case in ENCODE if not case["name"].startswith("false_block_")]


@pytest.mark.parametrize("case", EXACT, ids=lambda case: str(case["name"]))
def test_encode__when__message_of_the_golden_file__then__same_frames_as_the_library(case: Case) -> None:
    made = _encoded(case)
    if "frames" in case:
        assert [frame.hex() for frame in made] == case["frames"]
    else:
        assert [hashlib.sha3_256(frame).hexdigest() for frame in made] == [
            digest["sha3_256"] for digest in case["frames_digest"]
        ]


@pytest.mark.parametrize("case", ENCODE, ids=lambda case: str(case["name"]))
def test_encode__when__decoded_again__then__every_message_arrives_even_an_empty_one(case: Case) -> None:
    indices = dict(case["indices"] or case["parse_indices"])
    bodies = list(_decode(_encoded(case), indices))
    sent = [_message(spec) for spec in case["input"]] or [b""]
    assert bodies == [part if isinstance(part, bytes) else part.SerializeToString() for part in sent]


def test_encode__when__bytes_field_looks_like_a_block__then__one_frame() -> None:
    case = next(case for case in ENCODE if case["name"] == "false_block_two_letters")
    assert _encoded(case) == [bytes.fromhex("0a040a026869100122020801")]


# Where the decoder differs from the library: what arrives, as hex; with REFUSED at the end when the stream then fails.
REFUSED = "refused"
ABC, PAIR = "0a03616263120438303830", "0a016b1007"
STRICTER: dict[str, list[str]] = {
    # A message without separator is incomplete.
    "truncated_whole_body": [REFUSED],
    "truncated_three_frame": [REFUSED],
    "truncated_mid_field": [REFUSED],
    "truncated_field_boundary": [REFUSED],
    "truncated_then_head": [REFUSED],
    "head_only_then_end": [REFUSED],
    # What stands inside a message and is no part of it.
    "head_other_index_inside": [REFUSED],
    "signal_inside_message": [REFUSED],
    "signal_inside_message_index_4": [REFUSED],
    "no_field_frame_inside": [REFUSED],
    "separator_false_alone": [REFUSED],
    # Block pointers.
    "block_at_end_memory": [REFUSED],
    "block_in_middle_memory": [REFUSED],
    "block_wrong_content_memory": [REFUSED],
    # An empty body is a default message: a frame came.
    "head_and_separator": ["", PAIR],
    "empty_body_index_1": [""],
    "empty_body_index_4": [""],
    "empty_body_index_4_without_1": ["", PAIR],
    "empty_raw_bytes_without_1": [""],
    "empty_raw_bytes_with_1": ["", ABC],
    # Nothing is made of a signal or a separator that stands alone.
    "extra_separator_empty_type": [PAIR],
    "signal_before_answer_empty_type": [""],
    # A skip carrier is no part of a message.
    "skip_between_messages": [ABC, PAIR],
    "skip_first": [PAIR],
}


def _golden_frames(case: Case) -> list[bytes]:
    if "frames" in case:
        return [bytes.fromhex(frame) for frame in case["frames"]]
    body = TYPES["golden.Blob"](body=_pattern(3145723)).SerializeToString()
    if case["name"] == "one_frame_3mib":
        made = [Buffer(chunk=body, head=Buffer.Head(index=1), separator=True)]
    else:
        head = Buffer(head=Buffer.Head(index=1))
        made = [head, Buffer(chunk=body[:1500000]), Buffer(chunk=body[1500000:], separator=True)]
    frames = [frame.SerializeToString() for frame in made]
    assert [hashlib.sha3_256(frame).hexdigest() for frame in frames] == [
        digest["sha3_256"] for digest in case["frames_digest"]
    ]
    return frames


DECODE = [case for case in GOLDEN["decode_cases"] if case["mode"] == "memory"]


@pytest.mark.parametrize("case", DECODE, ids=lambda case: str(case["name"]))
def test_decode__when__stream_of_the_golden_file__then__the_library_s_messages_or_a_listed_difference(
    case: Case,
) -> None:
    bodies: list[bytes] = []
    failed = False
    try:
        bodies.extend(_decode(_golden_frames(case), case["indices"]))
    except FrameError:
        failed = True
    listed = STRICTER.get(case["name"])
    if listed is not None:
        assert [body.hex() for body in bodies] + [REFUSED] * failed == listed
        return
    assert failed == bool(case["error"])
    if not failed:
        assert len(bodies) == len(case["parsed"])
        assert all(_same(body, spec) for body, spec in zip(bodies, case["parsed"], strict=True))


def test_stricter__when__compared_with_the_golden_file__then__names_only_cases_in_it() -> None:
    assert STRICTER.keys() <= {case["name"] for case in DECODE}


# What the library itself sent, read by the decoder.


SENT = [case for case in GOLDEN["encode_cases"] if not case["encode_error"] and "frames" in case]


@pytest.mark.parametrize("case", SENT, ids=lambda case: str(case["name"]))
def test_decode__when__frames_the_library_made_of_a_message__then__the_message_in_either_form(case: Case) -> None:
    bodies = list(_decode(_golden_frames(case), dict(case["indices"] or case["parse_indices"])))
    sent = [bytes.fromhex(s["content_hex"]) if "content_hex" in s else _message(s) for s in case["input"]] or [b""]
    assert bodies == [part if isinstance(part, bytes) else part.SerializeToString() for part in sent]


@pytest.mark.parametrize("case", GOLDEN["file_cases"], ids=lambda case: str(case["name"]))
def test_encode__when__messages_of_a_bee_file__then__its_frames_behind_their_lengths(case: Case) -> None:
    number = {name: int(index) for index, name in case["indices"].items()}
    frames = [
        frame.SerializeToString() for spec in case["input"] for frame in encode(_message(spec), number[spec["type"]])
    ]
    assert b"".join(len(frame).to_bytes(4) + frame for frame in frames).hex() == case["file_hex"]


CALLS = [
    (pairing, call)
    for pairing in ("library_server_rules_client", "library_client_library_server", "library_client_rules_server")
    for call in GOLDEN["grpc"][pairing]
    # Of long answers only the lengths of the frames were recorded.
    if call.get("response_frames") and not any("length" in frame for frame in call["response_frames"])
]


@pytest.mark.parametrize(
    ("pairing", "call"), CALLS, ids=lambda part: str(part if isinstance(part, str) else part["name"])
)
def test_decode__when__answer_of_a_recorded_call__then__what_the_library_s_client_took_of_it(
    pairing: str, call: Case
) -> None:
    bodies = list(_decode([bytes.fromhex(frame) for frame in call["response_frames"]], {"1": "golden.Pair"}))
    # A default message is shown here, where the library drops it.
    assert [body.hex() for body in bodies if body] == [spec["serialized_hex"] for spec in call["parsed"]]
