"""A chain with a deployed market, one bonded node and one client, each with a key and many coins; transactions are signed and submitted."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

from contracts.chain import CLIENT, DEPLOYER, NODE, TREASURER, Party
from ergo_lib_python.chain import ErgoBox

from aihd.devnet.chain import Chain, RejectedError
from aihd.devnet.views import TxView
from aihd.protocol import guards, plans
from aihd.protocol.boxes import Bond, ClaimedTask, Minter, On, Rating, TaskEscrow
from aihd.protocol.constants import MARKET_LIFE
from aihd.protocol.deployment import Deployment, Guard
from aihd.protocol.funding import Funds, Output, Plan
from aihd.protocol.plans import Market, Side

from .rules import Rules

ERG: Final = 10**9
FEE: Final = 1_100_000
STAKE: Final = 5 * ERG
COINS: Final = 150
COIN: Final = 20 * ERG
Build = Callable[[Funds], Plan]


class Ground:
    """A market under `rules`; the same `seed` gives the same play."""

    def __init__(self, rules: Rules, seed: int) -> None:
        self.rules = rules
        self.random = random.Random(seed)
        rich = 2 * COINS * COIN
        self.chain = Chain(seed=seed, genesis={p.tree.hex(): rich for p in (NODE, CLIENT, DEPLOYER)})
        self._coins: dict[str, Iterator[ErgoBox]] = {}
        first = self._genesis_box(DEPLOYER)
        self.deployment = Deployment.make(
            rules.templates,
            network="devnet",
            bond_token=bytes(first.box_id),
            treasury=TREASURER.tree,
            expiry=self.chain.height + MARKET_LIFE,
        )
        self._found(first)

    def _found(self, first: ErgoBox) -> None:
        """Deploy, split the wallets, open the bond."""
        made = self.sign(plans.deploy(self.market, Funds((first,), DEPLOYER.tree, FEE)), DEPLOYER)
        for party in (NODE, CLIENT):
            coins = tuple(Output(COIN, party.tree) for _ in range(COINS))
            outputs = self.sign(
                plans.send(self.market, coins, Funds((self._genesis_box(party),), party.tree, 20 * FEE)), party
            )
            self._coins[party.name] = iter(outputs[:COINS])
        self.chain.mine()
        minter = self.deployment.read(Minter, made[0])
        opened = partial(plans.open_bond, self.market, minter, node=NODE.pk, amount=STAKE, endpoint="http://node")
        self._bond = self.send(NODE, opened)[1]
        self.chain.mine(guards.BIRTH_LEAD + 2)

    def _genesis_box(self, party: Party) -> ErgoBox:
        return next(view.box for view in self.chain.genesis if view.tree == party.tree.hex())

    @property
    def market(self) -> Market:
        return Market(self.deployment, self.chain.height + 1)

    # -- transactions

    def sign(self, plan: Plan, party: Party) -> list[ErgoBox]:
        """Sign, submit, and give the outputs; RejectedError where the mempool does not take it."""
        context = self.chain.context
        tx = party.wallet.sign_transaction(plan.unsigned(), list(plan.inputs), list(plan.data_inputs), context)
        self.chain.submit(tx)
        return list(tx.outputs)

    def coin(self, party: Party) -> ErgoBox:
        return next(self._coins[party.name])

    def send(self, party: Party, build: Build, fee: int = FEE) -> list[ErgoBox]:
        """Build with a coin of one's own, sign and submit."""
        return self.sign(build(Funds((self.coin(party),), party.tree, fee)), party)

    def outbid(self, party: Party, build: Build, limit: int) -> list[ErgoBox] | None:
        """The same, the fee doubled until the mempool takes it; None when that would be above `limit` nanoERG."""
        coin, fee = self.coin(party), FEE
        while fee <= limit:
            try:
                return self.sign(build(Funds((coin,), party.tree, fee)), party)
            except RejectedError as error:
                if "Double spending" not in str(error):
                    raise
                fee *= 2
        return None

    # -- boxes

    def bond(self, *, confirmed: bool = False) -> On[Bond]:
        """The newest bond: in the mempool, or on the chain."""
        newest = self._bond
        while (after := self._heir(newest, confirmed=confirmed)) is not None:
            newest = after
        return On(newest, Bond.read(newest))

    def _heir(self, box: ErgoBox, *, confirmed: bool) -> ErgoBox | None:
        spender = self._spender(str(box.box_id), confirmed=confirmed)
        tree = self.deployment.trees[Guard.BOND].hex()
        return next((view.box for view in spender.outputs if view.tree == tree), None) if spender else None

    def _spender(self, box_id: str, *, confirmed: bool) -> TxView | None:
        for block in reversed(self.chain.blocks):
            for tx in block.transactions:
                if box_id in tx.inputs:
                    return tx
        waiting = None if confirmed else self.chain.pool.spender(box_id)
        entry = self.chain.pool.get(waiting) if waiting else None
        return entry.view if entry else None

    def spender(self, box: On[Any]) -> TxView | None:
        """The transaction of the chain that spent a box."""
        return self._spender(box.id, confirmed=True)

    # -- steps

    def terms(self, payment: int, window: int) -> TaskEscrow:
        return self.rules.task(
            service_hash=b"s" * 32,
            input_commitment=b"i" * 32,
            worth=payment,
            payment=payment,
            min_reputation=0,
            claim_deadline=self.chain.height + 500,
            exec_window=window,
            selection_window=0,
            selection_difficulty=1,
            client=CLIENT.pk,
        )

    def post(self, payment: int, window: int) -> On[TaskEscrow]:
        terms = self.terms(payment, window)
        return On(self.send(CLIENT, partial(plans.post, self.market, terms))[0], terms)

    def claim(self, task: On[TaskEscrow]) -> On[ClaimedTask]:
        """On the newest bond, pending or not."""
        build = partial(self.rules.claim, self.market, task, self.bond())
        box, terms = self.send(NODE, build)[1], task.content
        claimed = self.rules.claimed(
            service_hash=terms.service_hash,
            input_commitment=terms.input_commitment,
            worth=terms.worth,
            payment=terms.payment,
            exec_deadline=self.market.height + terms.exec_window,
            claim_height=self.market.height,
            client=CLIENT.pk,
            node=NODE.pk,
        )
        return On(box, claimed)

    def rated(self, box: ErgoBox, worth: int) -> On[Rating]:
        """A rating that a release at the next height has made."""
        commit = self.market.height + plans.RATING_WINDOW
        content = self.rules.rating(
            client=CLIENT.pk,
            node=NODE.pk,
            worth=worth,
            commit_deadline=commit,
            reveal_deadline=commit + plans.RATING_WINDOW,
        )
        return On(box, content)

    def commit(self, rating: On[Rating], party: Party, mark: int) -> On[Rating]:
        side = Side.CLIENT if party is CLIENT else Side.NODE
        commitment = plans.commitment_of(rating, side, mark, SALT)
        box = self.send(party, partial(plans.commit, self.market, rating, side, commitment))[0]
        return On(box, replace(rating.content, **{f"{side}_commitment": commitment}))  # type: ignore[arg-type]

    def reveal(self, rating: On[Rating], party: Party, mark: int, fee: int = FEE) -> On[Rating]:
        side = Side.CLIENT if party is CLIENT else Side.NODE
        box = self.send(party, partial(plans.reveal, self.market, rating, side, mark, SALT), fee)[0]
        return On(box, replace(rating.content, **{f"{side}_mark": mark}))  # type: ignore[arg-type]


SALT: Final = b"x" * 32
