"""A mark by a rule instead of by taste: the output is what it has to be, and can be had, or it is worth nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aihd.client.client import Client, Post
from aihd.client.download import LocalError
from aihd.errors import AihdError, TemporaryError, UsageError, one_line
from aihd.protocol import hashes

GOOD: Final = 5
BAD: Final = 1
ATTEMPTS: Final = 3  # to fetch an output, before its node is held to keep it back
PIECE: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Judgement:
    """A mark and why."""

    mark: int
    reason: str


async def judge(client: Client, task_id: bytes, expected: bytes, pause: float) -> Judgement:
    """5 when the receipt's output has the `expected` SHA3-256 and can be fetched, else 1.

    `pause` is seconds between attempts to fetch. TemporaryError while there is no receipt.
    """
    receipt = (await client.view.life(task_id)).receipt
    if receipt is None:
        raise TemporaryError(f"task {task_id.hex()} has no receipt yet: there is nothing to judge")
    found = receipt.content.output_hash
    if found != expected:
        return Judgement(BAD, f"the output's hash is {found.hex()}, it has to be {expected.hex()}")
    reason = await _kept_back(client, task_id, pause)
    return Judgement(BAD, reason) if reason else Judgement(GOOD, f"the output's hash is {expected.hex()}, as expected")


async def _kept_back(client: Client, task_id: bytes, pause: float) -> str:
    """Why the output cannot be had; empty when it can."""
    reason = ""
    with tempfile.TemporaryDirectory(prefix="aihd-judge-") as folder:
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(pause)
            try:
                await client.fetch(task_id, Path(folder, "output"))
            except (LocalError, UsageError):
                raise  # our own disk says nothing of the node
            except AihdError as error:
                reason = f"the output cannot be fetched: {one_line(error)}"
            else:
                return ""
    return reason


async def reexecute(client: Client, task_id: bytes, post: Post, command: Sequence[str]) -> bytes:
    """SHA3-256 of what a command writes when it is given the task's input.

    It reads the input from its standard input and finds the task's configuration and AIH_SEED in its environment, as the service did.
    UsageError when it cannot be run or fails: that says nothing of the node.
    """
    life = await client.view.life(task_id)
    if life.claimed is None or life.claim_block is None:
        raise TemporaryError(f"task {task_id.hex()} is not claimed yet: its seed is not known")
    seed = hashes.run_seed(post.config, life.claim_block, task_id, life.claimed.content.input_commitment)
    environment = {**os.environ, **post.config, "AIH_SEED": seed.hex()}
    try:
        with await asyncio.to_thread(open, post.input_path, "rb") as source:
            process = await asyncio.create_subprocess_exec(*command, stdin=source, stdout=PIPE, env=environment)
    except OSError as error:
        raise UsageError(f"--reexecute {command[0]}: it cannot be run on {post.input_path}: {error.strerror}") from None
    digest = await _written(process)
    if process.returncode:
        raise UsageError(
            f"--reexecute {command[0]}: it ended with exit code {process.returncode}: there is nothing to compare with"
        )
    return digest


async def _written(process: Process) -> bytes:
    """SHA3-256 of all that a process writes; it is over then, whatever happened."""
    digest = hashlib.sha3_256()
    try:
        assert process.stdout is not None
        while piece := await process.stdout.read(PIECE):
            digest.update(piece)
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return digest.digest()
