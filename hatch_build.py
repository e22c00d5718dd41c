"""Build hook: turns proto/*.proto into aihd/nodo/pb/*_pb2.py (+ .pyi) before a wheel or an editable install is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
else:
    try:
        from hatchling.builders.hooks.plugin.interface import BuildHookInterface
    except ImportError:  # only a build has hatchling; `python hatch_build.py` in a checkout does without
        BuildHookInterface = object

ROOT = Path(__file__).parent


def generate() -> None:
    """Write the message classes; raise SystemExit with protoc's own message when a .proto file is wrong."""
    from grpc_tools import protoc

    out = ROOT / "aihd" / "nodo" / "pb"
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(str(p) for p in (ROOT / "proto").glob("*.proto"))
    code = protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--pyi_out={out}", *files])
    if code:
        raise SystemExit(f"protoc failed with exit code {code}")
    for made in out.glob("*_pb2.py*"):
        # protoc writes top-level imports; the files live in a package.
        text = made.read_text()
        for proto in files:
            name = Path(proto).stem + "_pb2"
            text = text.replace(f"\nimport {name} as ", f"\nfrom aihd.nodo.pb import {name} as ")
        made.write_text(text)
    (out / "__init__.py").write_text('"""Generated from proto/ by hatch_build.py: do not edit."""\n')


class ProtoHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs for wheels and for editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        generate()


if __name__ == "__main__":
    generate()
