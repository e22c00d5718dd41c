"""The guards on disk: their sources, the committed templates, and deployment files.

`ergoscript/<guard>.es` is the source, `ergoscript/compiled/<guard>.json` the template that the reference compiler makes of it. A
deployment file says which market a daemon works for; it holds no script, since templates and two values give them all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from ergo_lib_python.chain import Constant
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aihd.chain.appkit import Appkit
from aihd.errors import ConfigError
from aihd.protocol import constants
from aihd.protocol.deployment import SLOT_NAMES, Deployment, Guard, Template, slot_marker
from aihd.protocol.hashes import blake2b256
from aihd.protocol.trees import address_of, explorer_template_hash, node_template_hash, prefix_of
from aihd.resources import resource

COMPILER: Final = "ergo-appkit 5.0.0, ErgoTree v0, constants segregated"


class DeploymentFile(BaseModel):
    """What `aihd contracts deploy` writes and `chain.deployment` names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(constants.VERSION, ge=constants.VERSION, le=constants.VERSION)
    network: str = Field(pattern="^(mainnet|testnet|devnet)$")
    genesis_id: str = Field(pattern="^[0-9a-f]{64}$", description="id of the chain's first block")
    bond_token: str = Field(pattern="^[0-9a-f]{64}$")
    treasury: str = Field(pattern="^[0-9a-f]+$", description="ErgoTree that receives fees")
    expiry: int = Field(gt=0, description="last height at which a bond may be opened or a task claimed")
    id: str = Field(pattern="^[0-9a-f]{64}$", description="hash over all scripts, as a check")


@dataclass(frozen=True, slots=True)
class Difference:
    """A committed template that is not what the compiler makes of its source."""

    guard: Guard
    committed: bytes
    compiled: bytes


def source_of(guard: Guard) -> str:
    return resource("ergoscript", f"{guard}.es").read_text(encoding="utf-8")


@cache
def templates() -> Mapping[Guard, Template]:
    """The committed templates."""
    return {guard: _template(guard, resource("ergoscript", "compiled", f"{guard}.json")) for guard in Guard}


def _template(guard: Guard, path: Path) -> Template:
    record = json.loads(path.read_text(encoding="utf-8"))
    return Template(guard, bytes.fromhex(record["tree"]), {n: tuple(i) for n, i in record["slots"].items()})


def compile_guard(appkit: Appkit, guard: Guard) -> Template:
    """Compile a guard's source with markers in its slots."""
    return Template.of(guard, appkit.compile(source_of(guard), _environment()))


def _environment() -> dict[str, Constant]:
    env = {name: slot_marker(name) for name in SLOT_NAMES}
    env.update({name: Constant.from_i32(getattr(constants, name)) for name in constants.GUARD_INTS})
    env.update({name: Constant.from_i64(getattr(constants, name)) for name in constants.GUARD_LONGS})
    env.update({name: Constant.from_i256(getattr(constants, name)) for name in constants.GUARD_BIGINTS})
    env.update({name: Constant(getattr(constants, name)) for name in constants.GUARD_BYTES})
    return env


def template_record(template: Template) -> dict[str, Any]:
    """The committed form of a template. Explorer and node index a template under different hashes."""
    return {
        "guard": str(template.guard),
        "compiler": COMPILER,
        "tree": template.tree.hex(),
        "slots": {name: list(places) for name, places in sorted(template.slots.items())},
        "template_sha256": explorer_template_hash(template.tree),
        "template_blake2b256": node_template_hash(template.tree),
    }


def write_templates(appkit: Appkit, folder: Path) -> None:
    """Compile every guard into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for guard in Guard:
        record = template_record(compile_guard(appkit, guard))
        (folder / f"{guard}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def differences(appkit: Appkit) -> list[Difference]:
    """Every committed template that differs from a fresh compilation, byte for byte."""
    pairs = [(guard, templates()[guard], compile_guard(appkit, guard)) for guard in Guard]
    return [
        Difference(g, old.tree, new.tree) for g, old, new in pairs if (old.tree, old.slots) != (new.tree, new.slots)
    ]


def make_deployment(*, network: str, bond_token: bytes, treasury: bytes, expiry: int) -> Deployment:
    return Deployment.make(templates(), network=network, bond_token=bond_token, treasury=treasury, expiry=expiry)


def describe(deployment: Deployment) -> dict[str, Any]:
    """Every address, tree and hash of a deployment, hashes and trees in hex."""
    prefix = prefix_of(deployment.network)
    guards = [
        {
            "guard": str(guard),
            "address": address_of(tree, prefix),
            "tree": tree.hex(),
            "blake2b256": blake2b256(tree).hex(),
            "template_sha256": explorer_template_hash(tree),
            "template_blake2b256": node_template_hash(tree),
        }
        for guard, tree in deployment.trees.items()
    ]
    return {
        "id": deployment.id,
        "version": constants.VERSION,
        "network": deployment.network,
        "bond_token": deployment.bond_token.hex(),
        "treasury": address_of(deployment.treasury, prefix),
        "expiry": deployment.expiry,
        "guards": guards,
    }


def write_deployment(path: Path, deployment: Deployment, genesis_id: str) -> None:
    record = DeploymentFile(
        version=constants.VERSION,
        network=deployment.network,
        genesis_id=genesis_id,
        bond_token=deployment.bond_token.hex(),
        treasury=deployment.treasury.hex(),
        expiry=deployment.expiry,
        id=deployment.id,
    )
    path.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load_deployment(path: Path) -> tuple[Deployment, DeploymentFile]:
    """Read a deployment file; ConfigError when it is missing, malformed, or names another market than its values give."""
    try:
        record = DeploymentFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"chain.deployment: {path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"chain.deployment: {path}: {field}: {first['msg']}") from None
    deployment = make_deployment(
        network=record.network,
        bond_token=bytes.fromhex(record.bond_token),
        treasury=bytes.fromhex(record.treasury),
        expiry=record.expiry,
    )
    if deployment.id != record.id:
        raise ConfigError(
            f"chain.deployment: {path} is for market {record.id[:16]}…, but this version of aihd makes {deployment.id[:16]}… "
            "of its values: the guards changed in between"
        )
    return deployment, record
