"""Where settings come from, which win, and how every mistake is told."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from aihd.config import DEFAULT_FILE, Asset, Service, Settings, config_example, load_settings, required
from aihd.config_values import HostPort, Section
from aihd.core.assets import Asset as AssetValue
from aihd.errors import ConfigError, Exit
from aihd.protocol.units import NanoErg

MAINNET_ADDRESS = "9eatpGQdYNjTi5ZZLK7Bo7C3ms6oECPnxbQTRn6sDcBNLMYSCa8"
WORDS = "slow silly start wash bundle suffer bulb ancient height spin express remind today effort helmet"
NO_FILE = Path("/dev/null")  # keeps the tests from the configuration of the machine
WriteToml = Callable[[str], Path]


@pytest.fixture
def toml(tmp_path: Path) -> WriteToml:
    def write(text: str) -> Path:
        path = tmp_path / "aihd.toml"
        path.write_text(text)
        return path

    return write


def problems(
    path: Path | None = None, env: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> list[str]:
    """The lines of the one ConfigError, without the first; the count in the first has been checked."""
    with pytest.raises(ConfigError) as caught:
        load_settings(path or NO_FILE, env or {}, overrides or {})
    assert caught.value.exit_code is Exit.CONFIG
    first, *lines = str(caught.value).splitlines()
    assert first == ("1 problem" if len(lines) == 1 else f"{len(lines)} problems") + " in the configuration:"
    return [line.strip() for line in lines]


# --- sources


def test_load__when__nothing_is_set__then__defaults() -> None:
    settings = load_settings(NO_FILE, {}, {})
    assert settings.chain.network == "mainnet"
    assert settings.chain.poll == 15
    assert settings.wallet.fee == NanoErg(1_100_000)
    assert settings.policy.max_input == 100_000_000
    assert settings.ops.listen == HostPort("127.0.0.1", 9464)
    assert settings.services == ()


@pytest.mark.skipif(DEFAULT_FILE.exists(), reason="this machine has a configuration")
def test_load__when__no_file_is_named_and_the_usual_one_is_not_there__then__defaults() -> None:
    assert load_settings(None, {}, {}) == Settings()


def test_load__when__all_sources_set_a_key__then__flag_beats_variable_beats_file_beats_default(toml: WriteToml) -> None:
    file = toml('[chain]\npoll = "1 s"\nfinal_depth = 11\n[policy]\nmax_open_tasks = 1\n')
    env = {"AIHD_CHAIN__POLL": "2 s", "AIHD_CHAIN__FINAL_DEPTH": "12"}
    settings = load_settings(file, env, {"chain.poll": "3 s"})
    assert (settings.chain.poll, settings.chain.final_depth, settings.policy.max_open_tasks) == (3, 12, 1)
    assert settings.chain.network == "mainnet"


def test_load__when__file_is_named_by_variable__then__it_is_read_unless_the_flag_names_another(
    toml: WriteToml, tmp_path: Path
) -> None:
    named = toml("[chain]\nfinal_depth = 11\n")
    other = tmp_path / "other.toml"
    other.write_text("[chain]\nfinal_depth = 12\n")
    assert load_settings(None, {"AIHD_CONFIG": str(named)}, {}).chain.final_depth == 11
    assert load_settings(other, {"AIHD_CONFIG": str(named)}, {}).chain.final_depth == 12


def test_load__when__process_environment_has_variables__then__only_the_given_ones_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIHD_CHAIN__FINAL_DEPTH", "99")
    monkeypatch.setenv("CHAIN", '{"final_depth": 98}')
    assert load_settings(NO_FILE, {}, {}).chain.final_depth == 10


def test_load__when__value_is_empty_or_none__then__it_counts_as_not_set() -> None:
    settings = load_settings(
        NO_FILE, {"AIHD_WALLET__PAYOUT_ADDRESS": ""}, {"chain": {"poll": None}, "ops.listen": None}
    )
    assert settings == load_settings(NO_FILE, {}, {})


def test_load__when__overrides_are_nested_and_dotted__then__both_apply() -> None:
    settings = load_settings(NO_FILE, {}, {"ops": {"log_level": "debug"}, "ops.log_format": "json"})
    assert (settings.ops.log_level, settings.ops.log_format) == ("debug", "json")


@pytest.mark.parametrize(
    "text", ["http://a:1,http://b:2/", '["http://a:1", "http://b:2"]', " http://a:1 , http://b:2 "]
)
def test_load__when__variable_holds_a_list__then__json_or_commas(text: str) -> None:
    assert load_settings(NO_FILE, {"AIHD_CHAIN__NODE_URLS": text}, {}).chain.node_urls == ("http://a:1", "http://b:2")


def test_load__when__variable_holds_services__then__json_tables() -> None:
    env = {"AIHD_SERVICES": '[{"name": "word-count", "slot": 5000, "min_payment": "0.02 ERG"}]'}
    assert load_settings(NO_FILE, env, {}).services == (
        Service.model_validate({"name": "word-count", "slot": 5000, "min_payment": "0.02 ERG"}),
    )


def test_load__when__systemd_passes_credentials__then__they_are_the_lowest_default(tmp_path: Path) -> None:
    (tmp_path / "aihd-mnemonic").write_text(WORDS)
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load_settings(NO_FILE, env, {}).wallet.mnemonic_file == tmp_path / "aihd-mnemonic"
    assert load_settings(NO_FILE, env, {}).wallet.password_file is None
    assert load_settings(NO_FILE, env, {"wallet.mnemonic_file": "/else"}).wallet.mnemonic_file == Path("/else")


def test_settings__when__loaded_twice__then__equal_and_unchangeable() -> None:
    settings = load_settings(NO_FILE, {}, {})
    assert settings == load_settings(NO_FILE, {}, {})
    assert settings != load_settings(NO_FILE, {}, {"chain.poll": "1 s"})
    with pytest.raises(ValidationError, match="frozen"):
        settings.chain.poll = 1.0


def test_settings__when__folders_are_set__then__files_beneath_follow(tmp_path: Path) -> None:
    settings = load_settings(NO_FILE, {}, {"ops.data_dir": str(tmp_path), "nodo.storage": "/n"})
    assert settings.database == tmp_path / "aihd.sqlite"
    assert settings.content_dir == tmp_path / "content"
    assert settings.lock_file == tmp_path / "aihd.lock"
    nodo = settings.nodo.installation
    assert (nodo.database, nodo.registry) == (Path("/n/database.sqlite"), Path("/n/__registry__"))
    assert load_settings(NO_FILE, {}, {"nodo.database": "/d"}).nodo.installation.database == Path("/d")


# --- mistakes


def test_load__when__many_things_are_wrong__then__each_has_its_line_with_its_source(toml: WriteToml) -> None:
    file = toml('[chain]\nnetwrk = "x"\npoll = 5\n[[services]]\nhash = "ab"\nslot = 80\n')
    lines = problems(file, {"AIHD_POLICY__MAX_OPEN_TASKS": "99"}, {"ops.log_level": "loud"})
    assert lines == [
        f'chain.poll = 5 ({file}): 5 has no unit: write a duration as "30 s", "5 min" or "2 h"',
        f"chain.netwrk ({file}): unknown key; did you mean chain.network?",
        "policy.max_open_tasks = '99' (AIHD_POLICY__MAX_OPEN_TASKS): should be less than or equal to 48",
        f"services[0].hash = 'ab' ({file}): should be 64 hexadecimal digits, the id that nodo shows for the service",
        "ops.log_level = 'loud' (command line): should be 'debug', 'info', 'warning' or 'error'",
    ]


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ({"AIHD_CHIAN__NETWORK": "x"}, "chian (AIHD_CHIAN): unknown key; did you mean AIHD_CHAIN?"),
        ({"AIHD_OPS__DATADIR": "/x"}, "ops.datadir (AIHD_OPS__DATADIR): unknown key; did you mean AIHD_OPS__DATA_DIR?"),
        (
            {"AIHD_NODO__MAX_INPUT": "x"},
            "nodo.max_input (AIHD_NODO__MAX_INPUT): unknown key; did you mean AIHD_POLICY__MAX_INPUT?",
        ),
        ({"AIHD_BOND__ZZZ": "x"}, "bond.zzz (AIHD_BOND__ZZZ): unknown key; known are endpoint"),
    ],
)
def test_load__when__variable_is_unknown__then__nearest_is_named_as_a_variable(env: dict[str, str], line: str) -> None:
    assert problems(env=env) == [line]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("chain.network", "minenet", "should be 'mainnet', 'testnet' or 'devnet'"),
        ("chain.node_urls", [], "should have at least 1 item"),
        ("chain.node_urls", ["localhost:9053"], "chain.node_urls[0] = 'localhost:9053'"),
        ("chain.node_urls", "[1", "is not the JSON list it begins as"),
        ("chain.final_depth", True, "should be a whole number"),
        ("chain.final_depth", 2.0, "should be a whole number"),
        ("chain.poll", "0 s", "should be longer than nothing"),
        ("chain.deployment", "deployment.json", "should be an absolute path"),
        ("chain.network", "testnet", "names the explorer of mainnet, but network is 'testnet'"),
        ("wallet.fee", "0.0011", 'write an amount as "0.05 ERG"'),
        ("wallet.fee", "0.0009 ERG", "should be at least 0.001 ERG"),
        (
            "wallet.max_spend_per_day",
            "1 ERG",
            "max_spend_per_hour (2 ERG) should not be more than max_spend_per_day (1 ERG)",
        ),
        ("wallet.payout_address", MAINNET_ADDRESS[:-1] + "9", "is not an Ergo address"),
        ("nodo.gateway", "50051", "should be host:port"),
        ("nodo.gateway", "host:99999", "should be host:port"),
        ("policy.max_input", "100", 'write a size as "100 MB"'),
        ("bond.endpoint", "ftp://x", "should be an http or https address"),
        ("bond.endpoint", "https://" + "x" * 200, "should be at most 200 bytes"),
        ("services", [{"hash": "0" * 64}], "adapter 'http' needs a slot"),
        ("services", [{"slot": 1}], "should have a hash or a name, and not both"),
        ("services", [{"slot": 1, "name": "a"}, {"slot": 2, "name": "a"}], "a is listed twice"),
        ("services", [{"slot": 0, "name": "a"}], "should be greater than or equal to 1"),
        ("services", ["a"], "should be a table of keys"),
        ("ops", "x", "should be a table of keys"),
    ],
)
def test_load__when__value_is_wrong__then__one_line_says_what_is_right(key: str, value: object, says: str) -> None:
    (line,) = problems(overrides={key: value})
    assert says in line
    assert key.split(".")[0] in line


def test_load__when__payout_address_is_of_another_network__then__refused() -> None:
    testnet = {"chain.network": "testnet", "chain.explorer_urls": ["http://e"]}
    (line,) = problems(overrides={**testnet, "wallet.payout_address": MAINNET_ADDRESS})
    assert line == f"wallet.payout_address = '{MAINNET_ADDRESS}': is not an address of testnet"
    assert (
        load_settings(NO_FILE, {}, {"wallet.payout_address": MAINNET_ADDRESS}).wallet.payout_address == MAINNET_ADDRESS
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [("[chain\n", r"is not TOML: .*line 1, column 7"), ("[chain]\na = 1\na = 2\n", r"is not TOML: .*line 3")],
)
def test_load__when__file_is_not_toml__then__line_and_column(toml: WriteToml, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_settings(toml(text), {}, {})


def test_load__when__file_cannot_be_read__then__it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read \(No such file or directory\)"):
        load_settings(tmp_path / "nowhere.toml", {}, {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(None, {"AIHD_CONFIG": str(tmp_path)}, {})
    (tmp_path / "latin").write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="latin is not UTF-8 text"):
        load_settings(tmp_path / "latin", {}, {})


# --- secrets


@pytest.mark.parametrize(
    "env",
    [
        {"AIHD_WALLET__MNEMONIC": WORDS},
        {"AIHD_WALLET__PASSWORD": WORDS},
        {"AIHD_CHAIN__NODE_API_KEY": WORDS},
        {"AIHD_WALLET__SEED": WORDS},
    ],
)
def test_load__when__secret_is_a_value__then__refused_with_the_way_to_do_it(env: dict[str, str]) -> None:
    (line,) = problems(env=env)
    assert "a secret may not stand in the configuration or in a variable" in line
    assert "wallet.mnemonic_file" in line
    assert next(iter(env)) in line
    assert WORDS not in line


def test_load__when__secret_stands_where_its_file_belongs__then__it_is_not_repeated(toml: WriteToml) -> None:
    file = toml(f'[wallet]\nmnemonic_file = "{WORDS}"\npassword = "hunter2"\n')
    lines = problems(file, {"AIHD_BOND__ENDPOINT": "https://me:hunter2@host/"})
    assert len(lines) == 3
    assert "(not shown)" in lines[0]
    assert not any(word in line for line in lines for word in ("silly", "hunter2"))


def test_load__when__it_fails__then__no_chained_error_carries_the_value() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(NO_FILE, {"AIHD_WALLET__MNEMONIC": WORDS}, {})
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_required__when__value_is_missing__then__key_and_variable_are_named() -> None:
    assert required("x", "chain.deployment") == "x"
    with pytest.raises(ConfigError, match=r"chain\.deployment is not set: .* or as AIHD_CHAIN__DEPLOYMENT"):
        required(None, "chain.deployment")


# --- the example and the dump


TABLES: dict[str, type[BaseModel]] = {"services": Service, "assets": Asset}  # of which there may be several


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    for name in Settings.model_fields:
        yield name, TABLES.get(name) or type(getattr(Settings(), name))


def uncommented() -> str:
    return re.sub(r"^#(?=\[\[|\w+ = )", "", config_example(), flags=re.MULTILINE)


def test_example__when__loaded_as_it_is__then__the_same_as_no_file(toml: WriteToml) -> None:
    assert load_settings(toml(config_example()), {}, {}) == load_settings(NO_FILE, {}, {})


def test_example__when__everything_is_set__then__every_key_is_there_with_its_true_default(toml: WriteToml) -> None:
    settings = load_settings(toml(uncommented()), {}, {})
    tables = tomllib.loads(uncommented())
    for several in TABLES:
        tables[several] = {key: value for table in tables[several] for key, value in table.items()}
    for name, section in sections():
        assert set(tables[name]) == set(section.model_fields), name
        loaded = getattr(settings, name)[0] if name in TABLES else getattr(settings, name)
        for key, field in section.model_fields.items():
            if not field.is_required() and field.default is not None:
                assert getattr(loaded, key) == field.default, f"{name}.{key}"


def test_example__when__key_has_no_default__then__it_says_so_before() -> None:
    lines = config_example().splitlines()
    for name, section in sections():
        for key, field in section.model_fields.items():
            if field.default is None and (name, key) != ("services", "name"):
                before = [lines[at - 1] for at, line in enumerate(lines) if line.startswith(f"#{key} = ")]
                assert any("No default" in line for line in before), f"{name}.{key}"


def test_describe__when__read_back__then__the_same_settings(toml: WriteToml) -> None:
    settings = load_settings(
        toml(uncommented()), {}, {"chain.node_urls": ["http://[::1]:9053"], "ops.listen": "[::1]:0"}
    )
    assert load_settings(toml(settings.describe()), {}, {}) == settings
    assert "# payout_address is not set" in load_settings(NO_FILE, {}, {}).describe()


def test_sections__when__listed__then__none_can_take_a_secret() -> None:
    for _, section in sections():
        assert issubclass(section, Section)
        secrets = [key for key in section.model_fields if re.search("mnemonic|password|secret|seed|key", key)]
        assert all(key.endswith("_file") for key in secrets)


def test_installation__when__nodo_has_a_folder__then__its_settings_are_taken_and_ours_win(tmp_path: Path) -> None:
    text = "network:\n  GATEWAY_PORT: 4040\nmain:\n  STORAGE: /elsewhere\nhashing:\n  HASH: sha3_256\n"
    (tmp_path / "config.yaml").write_text(text)
    found = load_settings(NO_FILE, {}, {"nodo.folder": str(tmp_path)}).nodo.installation
    assert (found.gateway, found.storage) == ("127.0.0.1:4040", Path("/elsewhere"))
    given = {"nodo.folder": str(tmp_path), "nodo.gateway": "10.0.0.1:7", "nodo.storage": "/n", "nodo.database": "/d"}
    ours = load_settings(NO_FILE, {}, given).nodo.installation
    assert (ours.gateway, ours.registry, ours.database) == ("10.0.0.1:7", Path("/n/__registry__"), Path("/d"))


def test_offered__when__there_are_template_files__then__beside_those_listed_and_a_wrong_one_is_named(
    tmp_path: Path,
) -> None:
    good, bad = tmp_path / "batch.toml", tmp_path / "bad.toml"
    good.write_text('name = "batch-job"\nadapter = "tunnel"\nslot = 7\n')
    bad.write_text('name = "x"\nadapter = "pigeon"\n')
    listed = {"services": [{"name": "text-digest", "slot": 8080}]}
    settings = load_settings(NO_FILE, {}, {**listed, "nodo.templates": [str(good)]})
    assert [(service.name, service.adapter) for service in settings.offered] == [
        ("text-digest", "http"),
        ("batch-job", "tunnel"),
    ]
    wrong = load_settings(NO_FILE, {}, {"nodo.templates": [str(bad)]})
    with pytest.raises(ConfigError, match=r"bad\.toml: adapter"):
        _ = wrong.offered


@pytest.mark.parametrize(
    "name",
    ["AIHD_PORT", "AIHD_SERVICE_HOST", "AIHD_SERVICE_PORT_HTTP", "AIHD_PORT_9464_TCP_ADDR", "AIHD_DEVNET", "AIHD_ENV_X__Y",
     "AIHD_NAME", "AIHD_MNEMONIC", "AIHD_", "AIHD__", "AIHD", "aihd_chain__poll"],
)  # fmt: skip
def test_load__when__a_variable_of_others_looks_like_ours__then__it_is_not_read(name: str) -> None:
    assert load_settings(NO_FILE, {name: "tcp://10.0.0.1:9464"}, {}) == load_settings(NO_FILE, {}, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("chain.node_urls", "http://a:port"), ("chain.node_urls", "http://a:99999"), ("chain.node_urls", "http://a b:1"),
        ("chain.node_urls", "http://a:0"), ("chain.node_urls", "http://[::1:1"), ("chain.node_urls", "http://[::zz]:1"),
        ("chain.explorer_urls", "http://\u202ea"), ("chain.explorer_urls", "http://a..b"), ("chain.node_urls", "http://-a"),
        ("bond.endpoint", "http://my host/"), ("bond.endpoint", "http://host/a b"), ("bond.endpoint", "http://host/\x1b"),
        ("exchange.listen", "a b:1"), ("exchange.listen", "127.0.0.1:99999"), ("exchange.listen", "[::zz]:1"),
        ("exchange.listen", "host:port"), ("ops.listen", "h\u00f6st:1"), ("exchange.ipfs_api", "http://a:70000"),
        ("chain.poll", "10000 d"), ("chain.poll", "2 h"), ("nodo.start_timeout", "10000 d"), ("nodo.gateway", "a:b"),
    ],
)  # fmt: skip
def test_load__when__an_address_or_a_time_cannot_be_right__then__one_line_with_the_key(key: str, value: str) -> None:
    (line,) = problems(NO_FILE, {}, {key: value})
    assert line.startswith(key)
    assert "should be" in line
    assert line.isprintable()


def test_load__when__the_exchange_is_on_loopback__then__one_address_may_take_all_places() -> None:
    for listen, share in (("127.0.0.1:1", 256), ("[::1]:1", 256), ("0.0.0.0:1", 16), ("localhost:1", 256), ("h:1", 16)):
        assert load_settings(NO_FILE, {}, {"exchange.listen": listen}).exchange.share == share
    given = {"exchange.listen": "127.0.0.1:1", "exchange.per_address": 7}
    assert load_settings(NO_FILE, {}, given).exchange.share == 7


# --- assets, prices and what may be held back

TOKEN = "ab" * 32
SIGUSD = "03faf2cb329f2e90d6d23b58d91bbb6c046aa143261cc21f52fbe2824bfcbf04"
DEVNET = '[chain]\nnetwork = "devnet"\nexplorer_urls = ["http://127.0.0.1:1"]\n'
KNOWN = '[[assets]]\nname = "SigUSD"\nmax_worth = "3 ERG"\n'
OWN = f'[[assets]]\nname = "Gold"\nid = "{TOKEN}"\ndecimals = 0\nmax_worth = "2 ERG"\n'


def test_assets__when__one_is_known_and_one_is_told__then__both_with_ids_decimals_and_worth(toml: WriteToml) -> None:
    settings = load_settings(toml(KNOWN + OWN), {}, {})
    assert settings.asset_names == {
        bytes.fromhex(SIGUSD): AssetValue(name="SigUSD", decimals=2, max_worth=3 * 10**9),
        bytes.fromhex(TOKEN): AssetValue(name="Gold", decimals=0, max_worth=2 * 10**9),
    }
    assert load_settings(NO_FILE, {}, {}).asset_names == {}


def test_assets__when__a_known_name_has_an_id_of_its_own__then__that_one_as_on_a_devnet(toml: WriteToml) -> None:
    text = f'{DEVNET}[[assets]]\nname = "SigUSD"\nid = "{TOKEN}"\nmax_worth = "3 ERG"\n'
    (asset,) = load_settings(toml(text), {}, {}).asset_names.items()
    assert asset == (bytes.fromhex(TOKEN), AssetValue(name="SigUSD", decimals=2, max_worth=3 * 10**9))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[assets]]\nname = "Gold"\nmax_worth = "2 ERG"\n', "Gold needs id and decimals; known without them: SigUSD"),
        (OWN.replace("decimals = 0", ""), "Gold needs id and decimals"),
        (OWN.replace("Gold", "ERG"), "which is no token"),
        (OWN.replace("Gold", "nanoErg"), "which is no token"),
        (OWN.replace("Gold", "G old"), "name"),
        (OWN.replace("decimals = 0", "decimals = 19"), "decimals"),
        (OWN.replace("decimals = 0", "decimals = -1"), "decimals"),
        (OWN.replace(TOKEN, "ab"), "id"),
        (OWN.replace("2 ERG", "0 ERG"), "max_worth"),
        (OWN.replace("2 ERG", "2"), "max_worth"),
        (OWN.replace('max_worth = "2 ERG"', ""), "max_worth"),
        (OWN + OWN, "assets: name Gold is listed twice"),
        (OWN + OWN.replace("Gold", "Silver"), f"assets: id {TOKEN} is listed twice"),
        (
            DEVNET.replace("devnet", "testnet") + KNOWN,
            "assets: SigUSD needs an id, since chain.network is 'testnet'",
        ),
    ],
)
def test_assets__when__a_table_is_wrong__then__one_line_says_how(toml: WriteToml, text: str, says: str) -> None:
    (line,) = problems(toml(text))
    assert says in line


@pytest.mark.parametrize(
    ("given", "prices"),
    [
        ('"0.05 ERG"', {None: 50_000_000}),
        ('["0.05 ERG", "0.10 SigUSD"]', {None: 50_000_000, bytes.fromhex(SIGUSD): 10}),
        ('["7 Gold"]', {bytes.fromhex(TOKEN): 7}),
        ('["50000000 nanoERG"]', {None: 50_000_000}),
    ],
)
def test_prices__when__given_in_units__then__smallest_units_by_asset(
    toml: WriteToml, given: str, prices: dict[bytes | None, int]
) -> None:
    settings = load_settings(toml(f"[policy]\nmin_payment = {given}\n{KNOWN}{OWN}"), {}, {})
    assert settings.prices(settings.policy.min_payment, "policy.min_payment") == prices
    assert load_settings(toml(settings.describe()), {}, {}) == settings


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            '["0.1 SigUSD"]',
            "policy.min_payment: 0.1 SigUSD is in a unit that no table of [[assets]] names; known are ERG, Gold",
        ),
        ('["0.1 Gold"]', "finer than the 0 decimals that Gold has"),
        ('["0.0000000001 ERG"]', "finer than the 9 decimals that ERG has"),
        ('["1 ERG", "2 ERG"]', "should be one price for each unit"),
        ('["1 ERG", "2 nanoERG"]', "one of two prices in the same unit"),
        ('["1"]', "is not a number with a unit"),
        ('["99999999999999999999 Gold"]', "is more than the largest possible"),
    ],
)
def test_prices__when__a_unit_is_not_known_or_too_fine__then__the_key_and_what_is_known(
    toml: WriteToml, given: str, says: str
) -> None:
    (line,) = problems(toml(f"[policy]\nmin_payment = {given}\n{OWN}"))
    assert says in line


def test_prices__when__a_service_has_its_own_in_an_unknown_unit__then__it_is_named(toml: WriteToml) -> None:
    text = '[[services]]\nname = "x"\nslot = 1\nmin_payment = ["1 Silver"]\n'
    (line,) = problems(toml(text))
    assert "services: min_payment of x: 1 Silver is in a unit that no table of [[assets]] names; known are ERG" in line


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        ({}, ((-(10**9), 10_000), (0, 10_000))),
        ({"max_holdback": 50}, ((-(10**9), 5_000), (0, 5_000))),
        ({"max_holdback_of_strangers": 0}, ((-(10**9), 0), (0, 10_000))),
        ({"max_holdback": 50, "max_holdback_of_strangers": 80}, ((-(10**9), 5_000), (0, 5_000))),
        ({"max_holdback_of_strangers": 12.5, "stranger_below": 0.25}, ((-(10**9), 1_250), (250_000_000, 10_000))),
    ],
)
def test_holdback__when__bounded__then__nobody_may_more_than_the_most_and_strangers_less(
    given: dict[str, float], rows: tuple[tuple[int, int], ...]
) -> None:
    settings = load_settings(NO_FILE, {}, {f"policy.{key}": value for key, value in given.items()})
    assert settings.policy.holdback_by_standing == rows


@pytest.mark.parametrize("key", ["max_holdback", "max_holdback_of_strangers"])
@pytest.mark.parametrize("value", [-1, 100.1])
def test_holdback__when__no_percentage__then__refused(key: str, value: float) -> None:
    (line,) = problems(overrides={f"policy.{key}": value})
    assert key in line
