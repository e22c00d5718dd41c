"""What the service manager is told (sd_notify, systemd's documented datagrams), with no library between.

Promise: without a socket every call does nothing; a manager that does not listen never blocks or stops the daemon.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import structlog

from aihd.errors import one_line

_log = structlog.get_logger(__name__)


class Notifier:
    """Sends states to the manager named by NOTIFY_SOCKET (a path, or an abstract name that begins with @)."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._address = env.get("NOTIFY_SOCKET", "")

    def ready(self, status: str = "") -> bool:
        """Start-up, or a reload, is over."""
        return self._send("READY=1", *_status(status))

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send(*_status(text))

    def stopping(self, status: str = "") -> bool:
        """The daemon has begun to stop."""
        return self._send("STOPPING=1", *_status(status))

    def extend(self, seconds: float) -> bool:
        """Starting or stopping takes so much longer than was said."""
        return self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def watchdog(self) -> bool:
        """Call on real progress only: what feeds the watchdog is what the manager believes."""
        return self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> bool:
        """True when the manager has the message."""
        if not self._address or not lines:
            return False
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            _log.warning("service manager not reached", socket=self._address, error=error)
            return False
        return True


def watchdog_interval(env: Mapping[str, str]) -> float | None:
    """Seconds between two calls of `Notifier.watchdog`: half of what the manager waits; None when it does not watch us."""
    microseconds = env.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if env.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # meant for the process that started us
    return int(microseconds) / 2_000_000


def _status(text: str) -> list[str]:
    return [f"STATUS={one_line(ValueError(text))}"] if text else []
