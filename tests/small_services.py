"""Small services for the tests, and a Docker engine to run some: the one that is there, or one started for them, with a static busybox."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aihd.errors import DependencyError
from aihd.execution.engine import connect

RUNNING = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


SHOUT = """
import os, socket, time
time.sleep(float(os.environ.get("LATE", "0")))
server = socket.create_server((os.environ["SLOT_HOST"], int(os.environ["SLOT_8080"])))
while True:
    peer, _ = server.accept()
    data = b""
    while piece := peer.recv(1 << 16):
        data += piece
        if os.environ.get("DEAF"):
            break
    while os.environ.get("ENDLESS"):
        peer.sendall(b"x" * 1000)
    peer.sendall(data.upper())
    if os.environ.get("HANG"):
        time.sleep(100)
    peer.close()
"""
TALK = """
import os, sys, time
print("Linux version 6.1 booting", flush=True)
time.sleep(0.2)
print(os.environ["WHAT"], flush=True)
if os.environ.get("MARK", "AIH-END"):
    print(os.environ.get("MARK", "AIH-END"), flush=True)
    time.sleep(100)
"""
SHOUT_IN_CONTAINER = "while [ ! -e /data/input.ready ]; do sleep 0.05; done\ntr a-z A-Z < /data/input > /data/output\n"


SHOUT_OVER_HTTP = """
if [ "$1" = handle ]; then
    size=0
    while read -r name value; do
        [ "$name" = "Content-Length:" ] && size=$(echo "$value" | tr -d '\\r')
        [ "$name" = "$(printf '\\r')" ] && break
    done
    output=$(head -c "$size" | tr a-z A-Z)
    printf 'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s' "${#output}" "$output"
    exit
fi
sleep 1
exec nc -ll -p 8080 -e /entry handle
"""


def answers(url: str) -> bool:
    try:
        connect(url, 5).close()
    except DependencyError:
        return False
    return True


@contextmanager
def engine() -> Iterator[str]:
    """The address of an engine; skips where none runs and none can be started."""
    if answers(RUNNING):
        yield RUNNING
        return
    program = shutil.which("dockerd")
    if program is None or os.geteuid() != 0:
        pytest.skip("no Docker engine runs, and none can be started: dockerd and root are needed")
    with (
        (Path(tempfile.gettempdir()) / "aihd-docker.lock").open("w") as turn,
        tempfile.TemporaryDirectory(prefix="aihd-docker-", ignore_cleanup_errors=True) as folder,
    ):
        fcntl.flock(turn, fcntl.LOCK_EX)  # two engines at a time would share one bridge
        url = f"unix://{folder}/docker.sock"
        options = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid", "-H", url]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen([program, *options], stdout=log, stderr=log, start_new_session=True)
        try:
            for _ in range(300):
                if process.poll() is not None or answers(url):
                    break
                time.sleep(0.1)
            if not answers(url):
                pytest.skip("dockerd does not start here: " + (Path(folder) / "log").read_text()[-300:])
            yield url
        finally:
            process.terminate()
            process.wait(30)


def busybox(folder: Path) -> Path:
    """A base folder with a static busybox as /bin/sh and all else."""
    found = next((path for path in (Path("/bin/busybox"), Path("/usr/bin/busybox")) if path.is_file()), None)
    if found is None:
        pytest.skip("no busybox to build an image of: the package busybox-static")
    (folder / "bin").mkdir(parents=True)
    shutil.copy(found, folder / "bin" / "busybox")
    for name in ("sh", "cat", "sleep", "tr", "wc", "head", "nc", "dd", "tail", "printf", "echo"):
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "tmp").mkdir()
    (folder / "data").mkdir()
    return folder


def service(folder: Path, name: str, script: str, port: int = 8080) -> Path:
    """A folder of a packed service whose entry is a shell script."""
    folder = folder / name
    folder.mkdir(parents=True)
    (folder / "entry").write_text(f"#!/bin/sh\n{script}")
    (folder / "service.toml").write_text(
        f'name = "{name}"\nprose = "{name}"\nentry = "entry"\nport = {port}\nfiles = ["entry"]\n'
        f"[resources]\nmem_limit = {32 << 20}\n"
    )
    return folder
