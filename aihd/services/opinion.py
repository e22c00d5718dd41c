"""States on the chain what this node thinks of others, as a reputation proof. Off unless the operator asks for it.

A publication costs a fee and a little nanoERG for every new subject, so it waits until enough has changed, and is never dearer than the
operator allows. What is on the chain is read anew each time: the proof's token is that of the transaction that minted it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction

from aihd.chain.submitter import Intent
from aihd.chain.view import Situation
from aihd.core.task import Command
from aihd.errors import ConfigError
from aihd.nodo.reputation import read_scores
from aihd.protocol import opinion
from aihd.protocol.funding import Plan
from aihd.protocol.opinion import MAX_OPINIONS, MAX_SUBJECT, Opinion, Proof
from aihd.protocol.units import format_erg
from aihd.services.engine import Engine, Service
from aihd.store.journal import TxStatus

log = structlog.get_logger()

MINT: Final = Intent("opinion")
_GONE: Final = (TxStatus.DROPPED, TxStatus.REPLACED)


@dataclass(frozen=True, slots=True)
class OpinionRules:
    """When to publish: at `threshold` changed opinions, for at most `max_spend` nanoERG at a time, the fee included.

    `node_type` (32 bytes) is the type NFT of opinions on nodes, the owner's own box included.
    """

    threshold: int
    max_spend: int
    node_type: bytes = opinion.CELAUT_NODE_TYPE


class Opinions(Service):
    """Publishes the proof, and updates it."""

    name = "opinion"
    commands = frozenset[Command]()

    def __init__(self, engine: Engine, source: Callable[[], Sequence[Opinion]], rules: OpinionRules) -> None:
        """`source` gives the opinions as they are now; it may block."""
        super().__init__(engine)
        self._source = source
        self._rules = rules
        self._pointer = Opinion(rules.node_type, engine.signer.public_key, 1)

    async def step(self) -> None:
        wanted = strongest(await asyncio.to_thread(self._source))
        proof = await self._proof()
        if proof is None or opinion.changed(proof, self._pointer, wanted) < self._rules.threshold:
            return
        # Every update spends all boxes that are not locked, so any of them names the update.
        free = [on.id for on in proof if not on.content.locked]
        intent = Intent(f"opinion:{min(free)}") if free else MINT
        if self.engine.submitter.busy(intent):
            return
        types = await self._types(
            {self._pointer.type_nft, *(o.type_nft for o in wanted), *(on.content.type_nft for on in proof)}
        )
        record = await self.engine.submitter.transact(intent, lambda now: self._plan(now, proof, wanted, types))
        if record is not None:
            log.info("opinions stated", tx=record.id, opinions=len(wanted), spent=record.spent)

    def _plan(self, now: Situation, proof: Proof, wanted: Sequence[Opinion], types: Sequence[ErgoBox]) -> Plan:
        height, funds = now.market.height, now.funds
        if proof:
            plan = opinion.update(height, proof, self._pointer, wanted, types, funds)
        else:
            plan = opinion.publish(height, self._pointer, wanted, types, funds)
        cost = opinion.price(proof, plan)
        if cost > self._rules.max_spend:
            limit = format_erg(self._rules.max_spend)
            raise ConfigError(f"opinion.max_spend is {limit}, stating {len(wanted)} opinions takes {format_erg(cost)}")
        return plan

    async def _proof(self) -> Proof | None:
        """Our proof as node and explorer agree on it: empty when none was minted, None while they do not show it (yet)."""
        token = self._token()
        if token is None:
            return ()
        found = await self.engine.view.sources.by_token(token)
        boxes = [sighting.box for sighting in found if sighting.spent_by is None]
        for box in boxes:
            if await self.engine.view.node.box(box.id) is None:
                return None
        return opinion.read_proof(token, self.engine.signer.tree, boxes) or None

    def _token(self) -> bytes | None:
        """The token of the proof, from the transaction that mints it."""
        for record in self.engine.journal.transactions():
            if record.intent == MINT.key and record.status not in _GONE:
                return opinion.token_of(Transaction.from_bytes(record.body).outputs[0])
        return None

    async def _types(self, wanted: Iterable[bytes]) -> list[ErgoBox]:
        """The unspent boxes of the type NFTs, which the contract reads; what is missing is the plan's to complain about."""
        view = self.engine.view
        found = [sighting for token in sorted(wanted) for sighting in await view.sources.by_token(token)]
        return [s.box.ergo() for s in found if s.spent_by is None and await view.node.box(s.box.id) is not None]


def strongest(opinions: Iterable[Opinion]) -> list[Opinion]:
    """Those that fit one transaction, the ones of greatest weight; in an order that only the subjects decide."""
    heaviest = sorted((o for o in opinions if o.weight), key=lambda o: (-abs(o.weight), o.subject))[:MAX_OPINIONS]
    return sorted(heaviest, key=lambda o: (o.type_nft, o.subject))


def nodo_opinions(database: Path, node_type: bytes, service_type: bytes | None = None) -> list[Opinion]:
    """What the local nodo thinks of its peers (by their public key), and of services if there is a type for them.

    A peer whose id is no public key (a nodo of February 2026 or before) cannot be named on the chain. Errors as `read_scores`.
    """
    found = [
        Opinion(node_type, key, score) for name, score in read_scores(database, "peer").items() if (key := _key(name))
    ]
    if service_type is not None:
        scores = read_scores(database, "service")
        found += [Opinion(service_type, key, score) for name, score in scores.items() if (key := _key(name))]
    return found


def _key(name: str) -> bytes | None:
    try:
        key = bytes.fromhex(name)
    except ValueError:
        return None
    return key if 32 <= len(key) <= MAX_SUBJECT else None
