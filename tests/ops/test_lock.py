"""One process per data folder, tried with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aihd.errors import ConfigError, Exit, TemporaryError
from aihd.ops.lock import process_lock

HOLD = """
import pathlib, sys, time
from aihd.ops.lock import process_lock
with process_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_lock__when__another_process_holds_it__then__its_pid_is_named_and_its_death_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "aihd.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(TemporaryError, match=f"is at work in process {holder.pid} ") as caught,
            process_lock(path),
        ):
            pass
        assert caught.value.exit_code is Exit.TEMPORARY
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with process_lock(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_lock__when__released__then__it_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with process_lock(tmp_path / "aihd.lock"):
            pass
    assert (tmp_path / "aihd.lock").stat().st_mode & 0o777 == 0o600


def test_lock__when__block_fails__then__lock_is_released(tmp_path: Path) -> None:
    with pytest.raises(KeyError), process_lock(tmp_path / "aihd.lock"):
        raise KeyError
    with process_lock(tmp_path / "aihd.lock"):
        pass


def test_lock__when__taken_twice_in_one_process__then__refused(tmp_path: Path) -> None:
    path = tmp_path / "aihd.lock"
    with process_lock(path), pytest.raises(TemporaryError, match=f"process {os.getpid()}"), process_lock(path):
        pass


def test_lock__when__a_child_outlives_the_holder__then__the_child_does_not_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "aihd.lock"
    with process_lock(path):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with process_lock(path):
            assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_lock__when__folder_cannot_be_made__then__the_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match=r"ops\.data_dir should be a folder"),
        process_lock(tmp_path / "file" / "aihd.lock"),
    ):
        pass
