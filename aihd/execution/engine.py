"""A connection to a Docker engine."""

from __future__ import annotations

import socket
from typing import Final

import docker
import requests
from docker.errors import DockerException

from aihd.errors import DependencyError, one_line

LOST: Final = (DockerException, requests.RequestException)
"""What calls to an engine raise when it does not answer or does not agree."""

_UNIX: Final = "unix://"


def connect(engine: str, timeout: float = 60.0) -> docker.DockerClient:
    """A client of the engine at an address such as unix:///var/run/docker.sock; DependencyError when none answers.

    Blocks for at most `timeout` seconds, as each of its calls does. The caller closes it.
    """
    if engine.startswith(_UNIX):
        # First by hand: the SDK leaves a socket open that it could not connect.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(timeout)
            try:
                probe.connect(engine.removeprefix(_UNIX))
            except OSError as error:
                raise DependencyError(f"no Docker engine answers at {engine}: {error.strerror}") from None
    try:
        return docker.DockerClient(base_url=engine, timeout=max(1, round(timeout)))
    except LOST as error:
        raise DependencyError(f"no Docker engine answers at {engine}: {one_line(error)}") from None
