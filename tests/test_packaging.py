"""The unit file and the image say what the documents promise, and agree with the program."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from aihd.config import load_settings
from aihd.errors import Exit

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "systemd" / "aihd.service"
EXCHANGE = ROOT / "systemd" / "aihd-exchange.service"
Instruction = tuple[str, str]


def unit(section: str, path: Path = UNIT) -> dict[str, list[str]]:
    """Keys of a section with all their values; configparser would keep only the last."""
    body = re.split(r"^\[(\w+)\]$", path.read_text(), flags=re.MULTILINE)
    values: dict[str, list[str]] = {}
    for line in body[body.index(section) + 1].splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


def dockerfile() -> list[Instruction]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (name, rest.strip()) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())
    ]


def final_stage() -> list[Instruction]:
    instructions = dockerfile()
    last = max(at for at, (name, _) in enumerate(instructions) if name == "FROM")
    return instructions[last:]


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_unit__when__read__then__it_is_a_watched_service_that_stops_by_draining() -> None:
    service = unit("Service")
    assert service["Type"] == ["notify"]
    assert int(service["WatchdogSec"][0]) >= 30
    assert service["KillMode"] == ["mixed"]
    assert int(service["TimeoutStopSec"][0]) >= 60
    assert service["Restart"] == ["on-failure"]
    assert set(service["RestartPreventExitStatus"][0].split()) == {str(int(Exit.USAGE)), str(int(Exit.CONFIG))}
    assert service["ExecStart"] == ["/usr/bin/aihd run --config /etc/aihd/aihd.toml"]


def test_unit__when__read__then__user_is_static_and_the_mnemonic_comes_encrypted() -> None:
    service = unit("Service")
    assert "DynamicUser" not in service
    assert service["User"] == ["aihd"]
    assert service["LoadCredentialEncrypted"][0].startswith("aihd-mnemonic:")
    assert "Environment" not in service


def test_unit__when__started_with_its_credential__then__settings_find_the_file_and_the_state_folder(
    tmp_path: Path,
) -> None:
    credential = unit("Service")["LoadCredentialEncrypted"][0].split(":")[0]
    (tmp_path / credential).write_text("words")
    settings = load_settings(Path("/dev/null"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}, {})
    assert settings.wallet.mnemonic_file == tmp_path / credential
    assert settings.data_dir == Path("/var/lib") / unit("Service")["StateDirectory"][0]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("path", [UNIT, EXCHANGE], ids=lambda path: path.stem)
def test_unit__when__systemd_rates_it__then__exposure_is_below_2(path: Path) -> None:
    run = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-200:] + run.stderr


def test_exchange_unit__when__read__then__without_key_database_and_limits_above_its_own() -> None:
    service, settings = unit("Service", EXCHANGE), load_settings(Path("/dev/null"), {}, {})
    hidden = " ".join(service["InaccessiblePaths"])
    assert all(name in hidden for name in ("aihd.sqlite", "aihd.sqlite-wal", "/inputs", "mnemonic"))
    assert "LoadCredentialEncrypted" not in service
    assert service["ReadWritePaths"] == [f"-{settings.inbox_dir}"]
    assert settings.exchange_socket.parent == settings.data_dir
    assert int(service["MemoryMax"][0].removesuffix("M")) * 2**20 > settings.exchange.memory
    assert int(service["LimitNOFILE"][0]) > 2 * settings.exchange.connections
    assert service["Restart"] == ["always"]
    assert unit("Service")["OOMPolicy"] == ["continue"]
    assert int(unit("Service")["LimitNOFILE"][0]) >= 1024


def test_dockerfile__when__read__then__two_stages_from_one_image_that_a_digest_can_pin() -> None:
    instructions = dockerfile()
    assert instructions[0] == ("ARG", "PYTHON_IMAGE=python:3.13-slim")
    assert [rest for name, rest in instructions if name == "FROM"] == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]


def test_dockerfile__when__read__then__the_image_is_non_root_healthy_by_status_and_stops_on_term() -> None:
    stage = dict(final_stage())
    user, group = stage["USER"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert stage["VOLUME"] == "/var/lib/aihd"
    assert stage["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(stage["HEALTHCHECK"].partition("CMD ")[2]) == ["aihd", "status", "--quiet"]
    assert json.loads(stage["ENTRYPOINT"]) + json.loads(stage["CMD"]) == ["aihd", "run"]


def test_dockerfile__when__user_is_set__then__the_volume_was_made_for_that_user_before() -> None:
    stage = final_stage()
    names = [name for name, _ in stage]
    made = next(rest for name, rest in stage if name == "RUN")
    assert "--uid 10001" in made
    assert re.search(r"install --directory --owner aihd .* /var/lib/aihd", made)
    assert names.index("RUN") < names.index("USER") < names.index("VOLUME")
    assert dict(stage)["USER"].startswith("10001:")


def test_dockerfile__when__wheel_is_built__then__everything_the_build_names_is_copied_and_not_ignored() -> None:
    project = pyproject()
    build = project["tool"]["hatch"]["build"]
    needed = {"pyproject.toml", "proto", project["project"]["readme"], *project["project"]["license-files"]}
    needed |= {build["hooks"]["custom"]["path"], *build["targets"]["wheel"]["packages"]}
    needed |= set(build["targets"]["wheel"]["force-include"])
    copied = {
        word for name, rest in dockerfile() if name == "COPY" and "--from" not in rest for word in rest.split()[:-1]
    }
    ignored, *rules = (line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#"))
    assert copied == needed
    assert ignored == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == needed


@pytest.mark.parametrize("path", ["wallet/mnemonic", ".venv", ".git", "aihd.sqlite", "tests"])
def test_dockerignore__when__file_is_not_part_of_the_build__then__it_stays_out_of_the_context(path: str) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert not any(fnmatch.fnmatch(path.split("/")[0], rule) for rule in allowed)
