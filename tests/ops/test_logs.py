"""What reaches the log stream: one bounded line per event, without secrets."""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from aihd.ops import logs
from aihd.ops.logs import MASK, TEXT_LIMIT, TRACE_LIMIT, HoldBack, setup_logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A stream that takes the logs of one test; the set-up is global, so it is undone."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield io.StringIO()
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_log__when__format_is_json__then__one_line_with_level_name_and_utc_time(stream: io.StringIO) -> None:
    setup_logging("info", "json", stream)
    structlog.get_logger("aihd.x").info("claimed", task="ab", height=7)
    (event,) = events(stream)
    assert (event["event"], event["level"], event["logger"]) == ("claimed", "info", "aihd.x")
    assert (event["task"], event["height"]) == ("ab", 7)
    assert event["timestamp"].endswith("Z")


def test_log__when__library_logs__then__same_stream_and_shape(stream: io.StringIO) -> None:
    setup_logging("info", "json", stream)
    logging.getLogger("aiohttp.server").warning("refused %s", "peer", extra={"api_key": "k"})
    (event,) = events(stream)
    assert (event["event"], event["level"], event["logger"]) == ("refused peer", "warning", "aiohttp.server")
    assert event["api_key"] == MASK


def test_log__when__below_level__then__dropped_until_set_up_again(stream: io.StringIO) -> None:
    log = structlog.get_logger("aihd.x")
    setup_logging("warning", "json", stream)
    log.info("no")
    setup_logging("debug", "json", stream)
    log.debug("yes")
    assert [event["event"] for event in events(stream)] == ["yes"]


@pytest.mark.parametrize(
    "key", ["mnemonic", "wallet_password", "SEED", "secret_key", "api_key", "apikey", "Passphrase"]
)
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_log__when__key_says_secret__then__value_is_masked_at_every_depth(
    stream: io.StringIO, key: str, log_format: Any
) -> None:
    setup_logging("info", log_format, stream)
    structlog.get_logger().info("start", **{key: "slow silly", "settings": {"deep": [{key: "slow silly"}]}})
    assert "silly" not in stream.getvalue()
    assert stream.getvalue().count(MASK) == 2


def test_log__when__key_names_a_file__then__its_path_stays(stream: io.StringIO) -> None:
    setup_logging("info", "json", stream)
    structlog.get_logger().info("start", mnemonic_file="/etc/aihd/mnemonic")
    assert events(stream)[0]["mnemonic_file"] == "/etc/aihd/mnemonic"


def test_log__when__text_is_huge__then__every_part_is_short_and_one_line(stream: io.StringIO) -> None:
    setup_logging("info", "json", stream)
    huge = "x\n" * 50_000
    try:
        raise ValueError(huge)
    except ValueError as error:
        structlog.get_logger().exception(huge, error=error, nested={"a": [huge]}, raw=b"\xff" * 50_000)
    (event,) = events(stream)
    trace = event.pop("exception")
    assert trace.startswith("Traceback")
    assert len(trace) <= TRACE_LIMIT + 1
    assert len(event["event"]) == len(event["nested"]["a"][0]) == len(event["raw"]) == TEXT_LIMIT
    assert event["error"].startswith("ValueError: x x x")
    assert "\n" not in json.dumps(event, ensure_ascii=False)


def test_log__when__value_is_not_json__then__its_text(stream: io.StringIO) -> None:
    setup_logging("info", "json", stream)
    structlog.get_logger().info("box", id=b"\x01\x02", none=None, ok=True, share=0.5, key={1: 2}, kind=ValueError)
    event = events(stream)[0]
    assert (event["id"], event["none"], event["ok"], event["share"], event["key"]) == (
        "0102",
        None,
        True,
        0.5,
        {"1": 2},
    )
    assert event["kind"] == "<class 'ValueError'>"


def test_log__when__auto_and_no_terminal__then__json(stream: io.StringIO) -> None:
    setup_logging("info", "auto", stream)
    structlog.get_logger().info("start")
    assert events(stream)[0]["event"] == "start"


def test_log__when__console__then__readable_without_colours_off_a_terminal(stream: io.StringIO) -> None:
    setup_logging("info", "console", stream)
    structlog.get_logger().info("start", height=7)
    assert "start" in stream.getvalue()
    assert "height=7" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()


def test_log__when__context_is_bound__then__every_event_carries_it(stream: io.StringIO) -> None:
    setup_logging("info", "json", stream)
    with structlog.contextvars.bound_contextvars(task="ab"):
        structlog.get_logger().info("claimed")
    assert events(stream)[0]["task"] == "ab"


def test_log__when__the_same_comes_again_and_again__then__held_back_and_counted(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("aihd.ops.logs.time.monotonic", lambda: now)
    setup_logging("info", "json", stream)
    log = structlog.get_logger("aihd.x")
    for number in range(5000):
        log.warning("refused", peer=f"10.0.0.{number}")
        logging.getLogger("asyncio").error("socket.accept() out of system resource %s", number)
        if number % 1000 == 0:
            log.info("claimed", task=number)
    counts = Counter(event["event"].split(" ")[0] for event in events(stream))
    assert counts == {"refused": 60, "socket.accept()": 60, "claimed": 5}
    now += 61
    log.warning("refused", peer="10.0.0.1")
    logging.getLogger("asyncio").error("socket.accept() out of system resource %s", 7)
    assert [event["held_back"] for event in events(stream)[-2:]] == [4940, 4940]


def test_log__when__strangers_invent_kinds__then__what_is_counted_stays_small(stream: io.StringIO) -> None:
    held = HoldBack()
    for number in range(5 * logs.MAX_KINDS):
        name = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        held.filter(logging.LogRecord("x", logging.WARNING, "", 0, name, None, None))
    assert len(held._seen) <= logs.MAX_KINDS + 1
