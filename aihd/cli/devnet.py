"""Verbs of the embedded chain: run one, and steer one that runs."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.parse
import urllib.request
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from aihd.cli.common import erg
from aihd.errors import DependencyError, TemporaryError, UsageError, one_line
from aihd.screen import console_of, say

if TYPE_CHECKING:
    from aihd.devnet import Devnet

TIMEOUT_SECONDS: Final = 60.0

devnet_app = typer.Typer(
    invoke_without_command=True, help="An Ergo chain of your own, live in the terminal; its verbs steer one that runs."
)

Url = Annotated[str, typer.Option(envvar="AIHD_DEVNET", help="the node URL of the devnet that runs")]
DEFAULT_URL: Final = "http://127.0.0.1:9053"


class Pacing(StrEnum):
    """How long it is between blocks."""

    FIXED = "fixed"
    EXPONENTIAL = "exponential"


class Weighing(StrEnum):
    """What the mempool divides fees by."""

    SIZE = "size"
    COST = "cost"
    RANDOM = "random"


class OnOff(StrEnum):
    """A switch."""

    ON = "on"
    OFF = "off"


@devnet_app.callback()
def run(
    context: typer.Context,
    block_time: Annotated[float, typer.Option(help="seconds between blocks; 0: blocks come by `mine` alone")] = 2.0,
    pacing: Annotated[Pacing, typer.Option(help="the same time between blocks, or that on average")] = Pacing.FIXED,
    seed: Annotated[int, typer.Option(help="the same seed gives the same blocks")] = 0,
    weighing: Annotated[Weighing, typer.Option(help="how the mempool compares fees")] = Weighing.RANDOM,
    host: Annotated[str, typer.Option(help="the address to listen on")] = "127.0.0.1",
    explorer_port: Annotated[int, typer.Option(help="0: a free one")] = 9080,
    node_port: Annotated[int, typer.Option(help="0: a free one")] = 9053,
    testnet: Annotated[bool, typer.Option("--testnet", help="addresses of the test net")] = False,
    private: Annotated[
        bool, typer.Option("--private", help="addresses of a private network: those of the test net")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="a node without the extra index: no /blockchain")] = False,
    headers_ahead: Annotated[int, typer.Option(help="how far the node's headers run ahead of its blocks")] = 0,
    self_mined: Annotated[float, typer.Option(help="share of headers that show a 256-bit distance, 0 to 1")] = 0.5,
    watch: Annotated[list[str] | None, typer.Option(help="show the balance of this address")] = None,
    fault: Annotated[list[str] | None, typer.Option(help="a fault that is on from the start")] = None,
    jvm: Annotated[bool, typer.Option("--jvm", help="the JVM judges every transaction, too (extra appkit)")] = False,
    snapshots: Annotated[Path, typer.Option(help="the folder of snapshots")] = Path(),
    restore: Annotated[str | None, typer.Option(help="the name of a snapshot to start from")] = None,
) -> None:
    """Run a devnet until TERM or Ctrl-C."""
    from ergo_lib_python.chain import NetworkPrefix

    from aihd.devnet import Devnet

    if context.invoked_subcommand is not None:
        return
    _check(block_time, self_mined)
    devnet = Devnet(
        block_time=block_time or None,
        pacing=pacing.value,
        seed=seed,
        network=NetworkPrefix.Testnet if testnet or private else NetworkPrefix.Mainnet,
        node_network="devnet" if private else None,
        extra_index=not plain,
        headers_ahead=headers_ahead,
        self_mined=self_mined,
        weighing=weighing.value,
        host=host,
        explorer_port=explorer_port,
        node_port=node_port,
        faults=fault or (),
        jvm=jvm,
        snapshots=snapshots,
        restore=restore,
    )
    asyncio.run(_run(devnet, watch or []))


def _check(block_time: float, self_mined: float) -> None:
    if block_time < 0:
        raise UsageError(f"block-time {block_time}: it must be 0 or more seconds")
    if not 0 <= self_mined <= 1:
        raise UsageError(f"self-mined {self_mined}: it must be a number of 0 to 1")


async def _run(devnet: Devnet, addresses: list[str]) -> None:
    from aihd.devnet.control_api import balance
    from aihd.devnet.live import show

    for address in addresses:
        balance(devnet.chain, address)  # a wrong address is told before anything starts
    try:
        async with devnet:
            await show(devnet, console_of(), addresses)
    except OSError as error:
        raise TemporaryError(f"the devnet cannot listen: {error.strerror or error}") from error


@devnet_app.command()
def mine(
    blocks: Annotated[int, typer.Argument()] = 1,
    on: Annotated[str | None, typer.Option(help="id of the block to build on, for a branch")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Add blocks."""
    _say(_ask(url, "mine", {"blocks": blocks, "on": on}))


@devnet_app.command()
def reorg(
    depth: Annotated[int, typer.Argument()] = 1,
    lose: Annotated[bool, typer.Option("--lose", help="orphaned transactions do not return to the mempool")] = False,
    making: Annotated[
        bool, typer.Option("--making", help="only the new headers come; settle brings the blocks")
    ] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Replace the newest blocks by one more."""
    _say(_ask(url, "reorg", {"depth": depth, "lose": lose, "making": making}))


@devnet_app.command()
def settle(url: Url = DEFAULT_URL) -> None:
    """Bring the blocks whose headers have come."""
    _say(_ask(url, "settle", {}))


@devnet_app.command()
def node(
    headers_ahead: Annotated[int | None, typer.Option(help="how far headers run ahead of blocks")] = None,
    self_mined: Annotated[float | None, typer.Option(help="share of headers with a 256-bit distance")] = None,
    peer_height: Annotated[int | None, typer.Option(help="height of the highest peer")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Set how the node lives; what is not named stays."""
    asked = {"headersAhead": headers_ahead, "selfMined": self_mined, "peerHeight": peer_height}
    _say(_ask(url, "node", {name: value for name, value in asked.items() if value is not None}))


@devnet_app.command()
def drop(transaction: str, url: Url = DEFAULT_URL) -> None:
    """Lose a waiting transaction."""
    _say(_ask(url, "drop", {"transactionId": transaction}))


@devnet_app.command()
def restart(url: Url = DEFAULT_URL) -> None:
    """Lose the mempool, as a restart of a node does."""
    _say(_ask(url, "restart", {}))


@devnet_app.command()
def fault(
    name: str,
    on: OnOff,
    api: Annotated[str | None, typer.Option(help="explorer or node; default both")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Turn a fault on or off."""
    _say(_ask(url, "fault", {"name": name, "on": on is OnOff.ON, "api": api}))


@devnet_app.command()
def faucet(address: str, amount: str, url: Url = DEFAULT_URL) -> None:
    """Pay an address, for instance "1.5 ERG"; the next block holds it."""
    _say(_ask(url, "faucet", {"address": address, "nanoErg": erg(amount)}))


@devnet_app.command()
def issue(
    name: str,
    amount: Annotated[int, typer.Argument(help="of the smallest unit: with 2 decimals, 100 is one whole token")],
    decimals: int,
    to: Annotated[str | None, typer.Option(help="the address that gets it; default: the faucet")] = None,
    description: Annotated[str, typer.Option(help="what EIP-4 keeps beside the name")] = "",
    url: Url = DEFAULT_URL,
) -> None:
    """Issue a token by EIP-4 and print its id; the next block holds it."""
    body = {"name": name, "amount": amount, "decimals": decimals, "address": to, "description": description}
    say(_ask(url, "issue", body)["tokenId"])


@devnet_app.command()
def snapshot(name: str, url: Url = DEFAULT_URL) -> None:
    """Save the chain under a name."""
    _say(_ask(url, "snapshot", {"name": name}))


@devnet_app.command()
def restore(name: str, url: Url = DEFAULT_URL) -> None:
    """Go back to the chain of a name."""
    _say(_ask(url, "restore", {"name": name}))


@devnet_app.command()
def status(
    address: Annotated[list[str] | None, typer.Argument(help="addresses whose balance to show")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Tip, mempool, faults and balances."""
    _say(_ask(url, "status?" + urllib.parse.urlencode([("address", each) for each in address or ()]), None))


def _ask(url: str, path: str, body: dict[str, Any] | None) -> Any:
    """POST, or GET where there is no body."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"url {url!r}: it must begin with http:// or https://")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/devnet/{path}", data, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            raise UsageError(_refusal(url, error.read())) from error
    except (OSError, ValueError) as error:
        raise DependencyError(f"no devnet answers at {url} (start one: aihd devnet): {one_line(error)}") from error


def _refusal(url: str, body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"what answers at {url} is no devnet"


def _say(answer: Any) -> None:
    say(json.dumps(answer, indent=2))
