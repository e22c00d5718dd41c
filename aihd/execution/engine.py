"""A connection to a Docker engine, and what it says of the containers that nodo's instances are."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Final

import docker
import requests
from docker.errors import DockerException, NotFound

from aihd.errors import DependencyError, one_line

LOST: Final = (DockerException, requests.RequestException)
"""What calls to an engine raise when it does not answer or does not agree."""

_UNIX: Final = "unix://"
_PARTS: Final = "##"


def container_of(token: str) -> str:
    """Id or name of the container of an instance: nodo's token is that, or in 2024 `client##address##container`."""
    return token.rpartition(_PARTS)[2]


def asking(engine: str, timeout: float = 10.0) -> Callable[[str], Awaitable[bool]]:
    """What asks an engine whether the container of an instance's token is still there, in any state; DependencyError when it cannot say."""

    def look(token: str) -> bool:
        try:
            with closing(connect(engine, timeout)) as client:
                client.containers.get(container_of(token))
        except NotFound:
            return False
        except LOST as error:
            text = one_line(error).replace(token, "(token)")
            raise DependencyError(f"docker at {engine} does not say whether a container is there: {text}") from None
        return True

    async def still_there(token: str) -> bool:
        return await asyncio.to_thread(look, token)

    return still_there


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
