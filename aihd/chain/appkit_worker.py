"""The reference ErgoScript compiler and interpreter as a helper process.

Run as `python -m aihd.chain.appkit_worker JAR LIBJVM`. Promise: after one line `{"ready": true}` every JSON line on
stdin is answered by one JSON line on stdout, in order, and nothing else is ever written there; the process ends when
stdin closes. Requests are named by `op`:

- `compile`: `source`, `env` (name -> serialized constant, hex), `network` -> `tree` (hex, version 0, segregated)
- `verify`: `tx`, `inputs`, `data_inputs` (hex), `headers` (newest first), `pre_header`, `parameters` (node JSON)
  -> `results` (`ok`, `cost`, `error` per input), `init_cost`, `total_cost` (block cost units)
- `constants`: `tree` (hex) -> `constants` (`index`, `type`, `value` as serialized hex)

What cannot be answered (a source that does not compile, bytes that do not parse) is answered by `error`, one line.
Only `aihd.chain.appkit` speaks to this process: importing this module starts nothing, running it starts a JVM.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jpype
from jpype.types import JArray, JByte, JInt, JLong, JString

Json = dict[str, Any]

# The deep recursion of the parser wants the stack; one compiler tier and one collector thread halve the cold start.
_JVM_OPTIONS = ("-Xmx512m", "-Xss4m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_NETWORK_PREFIX = {"mainnet": 0, "testnet": 16}
_SEGREGATED_V0 = 0x10
# The interpreter in the jar is of Sigma 5. Told that version 3 is active, it takes every version 3 tree, even a false
# one, as an unknown soft fork and accepts it.
_ACTIVATED_VERSION = 2
_INTERPRETER_INIT_COST = 10_000
_COST_PARAMETERS = ("inputCost", "dataInputCost", "outputCost", "tokenAccessCost")
_INT_PARAMETERS = (*_COST_PARAMETERS, "storageFeeFactor", "minValuePerByte", "maxBlockSize", "maxBlockCost")


class ReferenceInterpreter:
    """The classes of the jar that compile and verify, behind JSON in and JSON out."""

    def __init__(self, jar: str, libjvm: str) -> None:
        jpype.startJVM(libjvm, *_JVM_OPTIONS, classpath=[jar], convertStrings=False)
        _load_logger_silently()
        self._helpers = jpype.JClass("org.ergoplatform.appkit.JavaHelpers")
        self._value = jpype.JClass("org.ergoplatform.appkit.ErgoValue")
        self._interpreter = jpype.JClass("org.ergoplatform.wallet.interpreter.ErgoInterpreter")
        self._context = jpype.JClass("org.ergoplatform.ErgoLikeContext")
        self._header = jpype.JClass("sigmastate.eval.CHeader")
        self._pre_header = jpype.JClass("sigmastate.eval.CPreHeader")
        self._avl_tree = jpype.JClass("sigmastate.eval.CAvlTree")
        self._value_serializer = _module("sigmastate.serialization.ValueSerializer")
        self._tx_serializer = _module("org.ergoplatform.ErgoLikeTransactionSerializer")
        self._box_serializer = _module("org.ergoplatform.ErgoBox$sigmaSerializer")
        self._reader = _module("sigmastate.serialization.SigmaSerializer").startReader
        self._rules = _module("org.ergoplatform.validation.ValidationRules").currentSettings()

    def answer(self, request: Json) -> Json:
        """The answer to one request; what the jar refuses comes back as `error`."""
        operations: dict[str, Callable[[Json], Json]] = {
            "compile": self.compile,
            "verify": self.verify,
            "constants": self.constants,
        }
        try:
            return operations[request["op"]](request)
        except jpype.JException as error:
            return {"error": _java_error(error)}
        except KeyError as error:
            return {"error": f"{error.args[0]!r} is missing or unknown"}
        except (ValueError, TypeError) as error:
            return {"error": str(error)}

    def compile(self, request: Json) -> Json:
        """ErgoScript to an ErgoTree whose root is a SigmaProp: the jar also hands out trees that nobody can spend."""
        env = jpype.JClass("java.util.HashMap")()
        for name, serialized in request["env"].items():
            env.put(JString(name), self._constant(name, serialized))
        tree = self._helpers.compile(env, JString(request["source"]), JByte(_NETWORK_PREFIX[request["network"]]))
        root = str(tree.toProposition(False).tpe().toTermString())
        if root != "SigmaProp":
            raise ValueError(f"the script's value is of type {root}, it must be SigmaProp (wrap it in sigmaProp(...))")
        if tree.header() != _SEGREGATED_V0:
            raise ValueError(
                f"the tree's header is {tree.header():#04x}, it must be 0x10: the script is a bare constant"
            )
        return {"tree": str(tree.bytesHex())}

    def _constant(self, name: str, serialized: str) -> Any:
        try:
            return self._value.fromHex(serialized).getValue()
        except jpype.JException as error:
            raise ValueError(f"env {name!r} is {serialized!r}, it must be a serialized constant") from error

    def constants(self, request: Json) -> Json:
        """The constants of a tree in the order of their slots."""
        tree = self._helpers.decodeStringToErgoTree(request["tree"])
        found = [
            {
                "index": index,
                "type": str(constant.tpe().toTermString()),
                "value": _from_java(self._value_serializer.serialize(constant)).hex(),
            }
            for index, constant in enumerate(_items(tree.constants()))
        ]
        return {"constants": found}

    def verify(self, request: Json) -> Json:
        """Scripts and proofs of all inputs, each under the cost limit that those before it have left."""
        tx = self._parse("tx", self._tx_serializer, request["tx"])
        boxes = [self._parse("inputs", self._box_serializer, box) for box in request["inputs"]]
        data_boxes = [self._parse("data_inputs", self._box_serializer, box) for box in request["data_inputs"]]
        _require_same_boxes("inputs", _items(tx.inputs()), boxes)
        _require_same_boxes("data_inputs", _items(tx.dataInputs()), data_boxes)
        parameters = request["parameters"]
        init_cost = _init_cost(parameters, tx, boxes, len(data_boxes))
        interpreter = self._interpreter.apply(_parameters(parameters))
        context = self._context_of(tx, boxes, data_boxes, request)
        total, results = init_cost, []
        for index, box in enumerate(boxes):
            result = self._verify_input(interpreter, tx, box, context(index, parameters["maxBlockCost"] - total))
            total += result["cost"]
            results.append(result)
        return {"results": results, "init_cost": init_cost, "total_cost": total}

    def _verify_input(self, interpreter: Any, tx: Any, box: Any, context: Any) -> Json:
        version = int(box.ergoTree().version())
        if version > _ACTIVATED_VERSION:
            error = f"ErgoTree version {version} is refused: this interpreter knows 0 to {_ACTIVATED_VERSION}"
            return {"ok": False, "cost": 0, "error": error}
        proof = tx.inputs().apply(JInt(context.selfIndex())).spendingProof()
        tried = interpreter.verify(box.ergoTree(), context, proof, tx.messageToSign())
        if tried.isFailure():
            return {"ok": False, "cost": 0, "error": _java_error(tried.failed().get())}
        ok, cost = bool(tried.get()._1()), int(tried.get()._2())
        return {"ok": ok, "cost": cost, "error": None if ok else "the script is false or its proof does not hold"}

    def _context_of(self, tx: Any, boxes: list[Any], data: list[Any], request: Json) -> Callable[[int, int], Any]:
        """A function from input index and cost limit to the context that input is evaluated in."""
        headers = [self._to_header(header) for header in request["headers"]]
        array = JArray(jpype.JClass("special.sigma.Header"))(headers)
        last_headers = self._helpers.SigmaDsl().Colls().fromArray(array, self._helpers.HeaderRType())
        pre_header = self._to_pre_header(request["pre_header"])
        state_root = request["headers"][0]["stateRoot"] if headers else "00" * 33
        root, spent, read = self._avl_data(state_root), self._indexed(boxes), self._indexed(data)

        def context(index: int, cost_limit: int) -> Any:
            chain = (root, last_headers, pre_header, read, spent, tx, JInt(index))
            extension = tx.inputs().apply(JInt(index)).spendingProof().extension()
            limits = (JLong(cost_limit), JLong(0), JByte(_ACTIVATED_VERSION))
            return self._context(*chain, extension, self._rules, *limits)

        return context

    def _to_header(self, header: Json) -> Any:
        solution = header["powSolutions"]
        return self._header(
            self._coll(header["id"]),
            JByte(header["version"]),
            self._coll(header["parentId"]),
            self._coll(header["adProofsRoot"]),
            self._avl_tree(self._avl_data(header["stateRoot"])),
            self._coll(header["transactionsRoot"]),
            JLong(header["timestamp"]),
            JLong(header["nBits"]),
            JInt(header["height"]),
            self._coll(header["extensionHash"]),
            self._helpers.decodeStringToGE(solution["pk"]),
            self._helpers.decodeStringToGE(solution["w"]),
            self._coll(solution["n"]),
            self._helpers.SigmaDsl().BigInt(jpype.JClass("java.math.BigInteger")(str(solution["d"]))),
            self._coll(header["votes"]),
        )

    def _to_pre_header(self, header: Json) -> Any:
        return self._pre_header(
            JByte(header["version"]),
            self._coll(header["parentId"]),
            JLong(header["timestamp"]),
            JLong(header["nBits"]),
            JInt(header["height"]),
            self._helpers.decodeStringToGE(header["powSolutions"]["pk"]),
            self._coll(header["votes"]),
        )

    def _parse(self, field: str, serializer: Any, serialized: str) -> Any:
        reader = self._reader(_to_java(serialized), JInt(0))
        try:
            parsed = serializer.parse(reader)
        except jpype.JException as error:
            raise ValueError(f"{field} does not parse: {_java_error(error)}") from error
        if reader.remaining():
            raise ValueError(f"{field} has {reader.remaining()} bytes after its end")
        return parsed

    def _coll(self, hexadecimal: str) -> Any:
        return self._helpers.collFrom(_to_java(hexadecimal))

    def _avl_data(self, digest: str) -> Any:
        return _module("org.ergoplatform.wallet.interpreter.ErgoInterpreter").avlTreeFromDigest(_to_java(digest))

    def _indexed(self, boxes: list[Any]) -> Any:
        return self._helpers.toIndexedSeq(jpype.JClass("java.util.ArrayList")(boxes))


def _module(name: str) -> Any:
    """The instance of a Scala object."""
    return getattr(jpype.JClass(name + "$"), "MODULE$")


def _to_java(hexadecimal: str) -> Any:
    return JArray(JByte)(bytes.fromhex(hexadecimal))


def _from_java(array: Any) -> bytes:
    return bytes(memoryview(array).cast("B"))


def _items(sequence: Any) -> list[Any]:
    return [sequence.apply(JInt(index)) for index in range(sequence.size())]


def _load_logger_silently() -> None:
    """SLF4J writes to stderr that it found no logger; that line would hide why a worker really ended."""
    system = jpype.JClass("java.lang.System")
    stderr = system.err
    system.setErr(jpype.JClass("java.io.PrintStream")(jpype.JClass("java.io.OutputStream").nullOutputStream()))
    jpype.JClass("org.slf4j.LoggerFactory").getILoggerFactory()
    system.setErr(stderr)


def _java_error(error: Any) -> str:
    """One line of a Java exception, without the caret of the compiler and the dump of its environment."""
    text = str(error.getMessage() or "").partition(" in env Map(")[0]
    parts = [" ".join(line.split()) for line in text.splitlines()]
    name = str(error.getClass().getSimpleName())
    return ": ".join(part for part in [*parts, name] if part not in ("", "^"))[:500]


def _require_same_boxes(field: str, named: Sequence[Any], given: Sequence[Any]) -> None:
    """ValueError unless the boxes given are those that the transaction names, in its order."""
    wanted = [_from_java(item.boxId()).hex() for item in named]
    have = [_from_java(box.id()).hex() for box in given]
    if wanted != have:
        raise ValueError(f"{field} are the boxes {have}, the transaction names {wanted}")


def _parameters(values: Json) -> Any:
    """The node's voted parameters as the interface the interpreter reads."""
    getters: dict[str, Callable[[], Any]] = {name: partial(JInt, values[name]) for name in _INT_PARAMETERS}
    getters["blockVersion"] = partial(JByte, values["blockVersion"])
    for vote in ("softForkStartingHeight", "softForkVotesCollected"):
        getters[vote] = partial(_module, "scala.None")
    return jpype.JProxy("org.ergoplatform.wallet.protocol.context.ErgoLikeParameters", dict=getters)


def _init_cost(parameters: Json, tx: Any, boxes: Sequence[Any], data_inputs: int) -> int:
    """What the node charges before any script runs; tokens count per entry and once more per distinct id of a side."""
    outputs = _items(tx.outputCandidates())
    tokens = 0
    for side in (boxes, outputs):
        ids = [_from_java(entry._1()) for box in side for entry in box.additionalTokens().toArray()]
        tokens += len(ids) + len(set(ids))
    counts = (len(boxes), data_inputs, len(outputs), tokens)
    costs = [int(parameters[name]) for name in _COST_PARAMETERS]
    return _INTERPRETER_INIT_COST + sum(count * cost for count, cost in zip(counts, costs, strict=True))


def main() -> None:
    """Answer until stdin closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the JVM prints must not come between the answers
    machine = ReferenceInterpreter(jar=sys.argv[1], libjvm=sys.argv[2])
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(machine.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
