"""Messages to the service manager, over real datagram sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from aihd.ops.notify import Notifier, watchdog_interval


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        yield sock


def test_notify__when__socket_is_a_path__then__manager_gets_each_state(manager: socket.socket, tmp_path: Path) -> None:
    manager.bind(str(tmp_path / "notify"))
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    assert notifier.ready("synced to 1,000")
    assert notifier.status("two\ntasks\nREADY=1")
    assert notifier.watchdog()
    assert notifier.stopping()
    assert [manager.recv(4096) for _ in range(4)] == [
        b"READY=1\nSTATUS=synced to 1,000",
        b"STATUS=two tasks READY=1",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_notify__when__socket_is_abstract__then__it_is_reached(manager: socket.socket) -> None:
    name = f"aihd-test-{os.getpid()}"
    manager.bind("\0" + name)
    assert Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
    assert manager.recv(4096) == b"READY=1"


def test_notify__when__there_is_no_manager__then__nothing_happens() -> None:
    notifier = Notifier({})
    assert not notifier.ready()
    assert not notifier.status("")


def test_notify__when__manager_is_gone__then__no_error(tmp_path: Path) -> None:
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).watchdog()


def test_notify__when__manager_does_not_read__then__the_call_does_not_block(
    manager: socket.socket, tmp_path: Path
) -> None:
    manager.bind(str(tmp_path / "notify"))
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    sent = [notifier.watchdog() for _ in range(2_000)]
    assert sent[0]
    assert not sent[-1]


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        ({"WATCHDOG_USEC": "120000000"}, 60),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog_interval__when__manager_says__then__half_of_it(env: dict[str, str], seconds: float | None) -> None:
    assert watchdog_interval(env) == seconds
