from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devnet_wallet import key

from aihd.demo.world import free_port

A = key(1)
AIHD = [str(Path(sys.executable).with_name("aihd"))]


@contextmanager
def running(*options: str, stdout: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    command = [*AIHD, "devnet", "--explorer-port", "0", "--node-port", str(port), *options]
    process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.STDOUT, env={**os.environ, "TERM": "xterm"})
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def verb(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*AIHD, "devnet", *arguments, "--url", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def ask(url: str, path: str) -> str:
    with urllib.request.urlopen(url + path, timeout=30) as answer:
        return str(answer.read().decode())


class Screen:
    """Everything a terminal has shown; it is read all the time, as a terminal does, or its program would wait."""

    def __init__(self, terminal: int) -> None:
        self.text = ""
        self._terminal = terminal
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for(self, wanted: str, patience: float = 30.0) -> None:
        deadline = time.monotonic() + patience
        while wanted not in self.text:
            assert time.monotonic() < deadline, self.text[-2000:]
            time.sleep(0.02)

    def close(self) -> None:
        """After the program has ended."""
        self._reader.join()
        os.close(self._terminal)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other side has left
            while piece := os.read(self._terminal, 65536):
                self.text += piece.decode("utf-8", "replace")


def test_devnet__when__run_in_a_terminal__then__live_steered_by_verbs_and_gone_at_term(tmp_path: Path) -> None:
    terminal, theirs = pty.openpty()
    options = ("--block-time", "0", "--weighing", "size", "--watch", A.address, "--snapshots", str(tmp_path))
    with running(*options, stdout=theirs) as (process, url):
        os.close(theirs)
        shown = Screen(terminal)
        shown.wait_for("mempool")
        paid = verb(url, "faucet", A.address, "1.5 ERG")
        assert paid.returncode == 0, paid.stderr
        shown.wait_for("1 waiting, weighed by size")
        issued = verb(url, "issue", "Beans", "100000", "2", "--to", A.address)
        assert issued.returncode == 0 and len(bytes.fromhex(issued.stdout.strip())) == 32, issued.stderr
        assert verb(url, "mine", "2").returncode == 0
        assert issued.stdout.strip() in ask(url, f"/blockchain/token/byId/{issued.stdout.strip()}")
        shown.wait_for("1.501 ERG")
        assert verb(url, "fault", "lag", "on", "--api", "node").returncode == 0
        shown.wait_for("lag")
        assert verb(url, "snapshot", "here").returncode == 0 and (tmp_path / "here").exists()
        assert verb(url, "reorg", "1").returncode == 0
        assert '"height": 22' in verb(url, "restore", "here").stdout
        wrong = verb(url, "reorg", "99")
        assert (wrong.returncode, wrong.stderr) == (64, "aihd: depth 99: a reorg here takes 1 to 12 blocks\n")
        process.send_signal(signal.SIGTERM)
        shown.wait_for("devnet stopped at height 22")
        assert process.wait(10) == 0
    shown.close()


def test_devnet__steered_as_a_node_lives__has_headers_ahead_and_a_reorg_in_the_making() -> None:
    options = ("--block-time", "0", "--private", "--plain", "--headers-ahead", "1", "--self-mined", "1")
    with running(*options, stdout=subprocess.PIPE) as (process, url):
        assert process.stdout is not None and url in process.stdout.readline().decode()
        info = json.loads(ask(url, "/info"))
        assert (info["network"], info["isExplorer"], info["headersHeight"]) == ("devnet", False, 20)
        verb(url, "mine")
        info = json.loads(ask(url, "/info"))
        assert (info["fullHeight"], info["headersHeight"]) == (20, 21)
        (header,) = json.loads(ask(url, "/blocks/lastHeaders/1"))
        assert header["height"] == 21 and header["powSolutions"]["d"].bit_length() == 256
        assert '"headersAhead": 0' in verb(url, "node", "--headers-ahead", "0", "--peer-height", "900").stdout
        assert json.loads(ask(url, "/info"))["maxPeerHeight"] == 900
        assert verb(url, "reorg", "1", "--making").returncode == 0
        info = json.loads(ask(url, "/info"))
        assert (info["fullHeight"], info["headersHeight"]) == (21, 22)
        assert '"height": 22' in verb(url, "settle").stdout
        wrong = verb(url, "node", "--self-mined", "2")
        assert wrong.returncode == 64 and "a number of 0 to 1; it has '2.0'" in wrong.stderr
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)


def test_devnet__when__its_output_is_a_file__then__a_line_for_each_block_and_gone_at_term() -> None:
    with running("--block-time", "0.2", "--pacing", "exponential", stdout=subprocess.PIPE) as (process, url):
        assert process.stdout is not None
        first = process.stdout.readline().decode()
        assert url in first
        heights = [int(process.stdout.readline().split()[1]) for _ in range(3)]
        assert heights == sorted(set(heights))
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=10)
        assert process.returncode == 0 and b"devnet stopped at height" in rest


def test_verb__when__no_devnet_runs__then__one_line_and_the_exit_code_of_a_missing_dependency() -> None:
    answer = verb(f"http://127.0.0.1:{free_port()}", "mine")
    assert answer.returncode == 69
    assert "no devnet answers at" in answer.stderr and answer.stderr.count("\n") == 1
