from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from devnet_wallet import ERG, key, out, pay, sign
from ergo_lib_python.chain import Constant

from aihd.devnet import Devnet
from aihd.protocol.trees import FEE_TREE, explorer_template_hash

PACKAGES = ("@rosen-clients/ergo-explorer@1.1.7", "@rosen-clients/ergo-node@1.2.4")
SCRIPTS = [Path(__file__).with_name(name) for name in ("client.mjs", "resolve.mjs")]

A, B = key(1), key(2)


def installed(folder: Path) -> Path:
    """A folder with the packages; the test is skipped where no registry answers."""
    folder.mkdir()
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm install took more than 180 s")
    if ended.returncode:
        pytest.skip(f"npm install failed: {ended.stderr.strip()[-200:]}")
    for script in SCRIPTS:
        shutil.copy(script, folder)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="Node.js and npm are not installed")
@pytest.mark.asyncio
async def test_clients__when__generated_from_the_openapi_files__then__run_unchanged(tmp_path: Path) -> None:
    folder = await asyncio.to_thread(installed, tmp_path / "client")
    async with Devnet(genesis={A.tree.hex(): 10 * ERG}) as devnet:
        chain = devnet.chain
        tree = chain.genesis[-1].box
        outputs = [
            out(9 * ERG, A.tree, 20, tokens=[(str(tree.box_id), 5)], registers=[Constant(b"Beans")]),
            out(ERG - 1_100_000, B.tree, 20, registers=[Constant.from_i64(7)]),
            out(1_100_000, FEE_TREE, 20),
        ]
        minted = sign(chain, [A], [tree], outputs)
        chain.submit(minted)
        chain.mine()
        waiting = pay(chain, B, minted.outputs[1], A.tree, ERG // 2)
        facts = {
            "tree": A.tree.hex(),
            "template": explorer_template_hash(B.tree),
            "token": str(tree.box_id),
            "transaction": json.loads(waiting.json()),
            "boxId": str(waiting.outputs[0].box_id),
        }
        (folder / "facts.json").write_text(json.dumps(facts))
        command = [
            "node",
            "--experimental-loader",
            "./resolve.mjs",
            "client.mjs",
            devnet.explorer_url,
            devnet.node_url,
            A.address,
            "facts.json",
        ]
        process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=-1, stderr=-1)
        stdout, stderr = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, stderr.decode()
        seen = json.loads(stdout)
        tx_id = str(waiting.id)
        assert seen == {
            **dict.fromkeys(("info", "state"), chain.height),
            **dict.fromkeys(("block", "summary", "at", "unconfirmed"), True),
            **dict.fromkeys(("checked", "sent"), tx_id),
            "waiting": [tx_id],
            "pool": [tx_id],
            "headers": list(range(chain.height - 9, chain.height + 1)),
            "slice": 2,
            "balance": str(9 * ERG),
            "token": "Beans",
            "byTemplate": 1,
            "byTree": [str(minted.outputs[0].box_id)],
            "indexed": 2,
            "again": f"Pool can not accept transaction {tx_id}, it is already in the mempool",
            "absent": 404,
        }
