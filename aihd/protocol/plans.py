"""One function for each transaction of the protocol: which boxes go in, which come out at which index, who signs.

Used by the daemon, the client and the tests alike. `height` is always the HEIGHT that scripts see if the transaction is mined next
(tip + 1). The functions build what is asked; whether it is wise is decided elsewhere, whether it is allowed by the guards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from ergo_lib_python.chain import ErgoBox

from aihd.errors import UsageError
from aihd.protocol import codec, guards, hashes
from aihd.protocol.box import Box
from aihd.protocol.boxes import (
    Bond,
    ClaimedTask,
    Content,
    FailureReceipt,
    Minter,
    On,
    Rating,
    Receipt,
    TaskEscrow,
    registers,
)
from aihd.protocol.constants import (
    BOND_RESERVE,
    BURN,
    COMPLETED,
    DUST,
    FAILED,
    MAX_MINER_FEE,
    MIN_BOX,
    RATING_VALUE,
    RECEIPT_VALUE,
    SLACK,
    USELESS,
    WINDOW_MAX,
    WINDOW_MIN,
)
from aihd.protocol.deployment import Deployment, Guard
from aihd.protocol.funding import Funds, Output, Plan, TxKind, balance
from aihd.protocol.trees import p2pk_tree

# Declared heights lie in the middle of what the guards allow: as many blocks to be late as to be early.
RATING_WINDOW: Final = (WINDOW_MIN + WINDOW_MAX) // 2
MINTER_VALUE: Final = 2 * MIN_BOX
# What a failure takes: its rating's value and the largest fee that a client would pay, with a box of change.
RESERVE: Final = RATING_VALUE + MAX_MINER_FEE + MIN_BOX
RESERVE_INDEX: Final = 2  # among the outputs of a claim
BOND_SUPPLY: Final = 2**62


class Side(StrEnum):
    """A party to a rating."""

    CLIENT = "client"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Market:
    """What every plan needs to know: the scripts, and the HEIGHT of the next block."""

    deployment: Deployment
    height: int

    def output(self, guard: Guard, value: int, content: Content, tokens: tuple[tuple[bytes, int], ...]) -> Output:
        return Output(value, self.deployment.trees[guard], tokens, registers(content))


def deploy(market: Market, funds: Funds) -> Plan:
    """Mint the bond tokens into the minter. The deployment must have been made for the id of the first wallet box."""
    token = market.deployment.bond_token
    first = next((box for box in funds.boxes if bytes(box.box_id) == token), None)
    if first is None:
        raise UsageError(f"deploy: box {token.hex()}, whose id the bond token must have, is not in the wallet")
    minter = market.output(Guard.MINTER, MINTER_VALUE, Minter(), ((token, BOND_SUPPLY),))
    return balance(TxKind.DEPLOY, (first,), (minter,), funds, market.height, signer=_key(funds))


def open_bond(market: Market, minter: On[Minter], funds: Funds, *, node: bytes, amount: int, endpoint: str) -> Plan:
    """Stake `amount` nanoERG for `node` (33-byte key), reachable at `endpoint` (URL)."""
    born = market.height + guards.BIRTH_LEAD
    bond = Bond(node, amount, born=born, last_activity=born, endpoint=endpoint)
    ((token, supply),) = minter.tokens
    named = (
        market.output(Guard.MINTER, minter.value, Minter(), ((token, supply - 1),)),
        market.output(Guard.BOND, amount + BOND_RESERVE, bond, ((token, 1),)),
    )
    return balance(TxKind.OPEN_BOND, (minter.box,), named, funds, market.height, signer=_key(funds))


def manage(market: Market, bond: On[Bond], funds: Funds, *, add: int = 0, endpoint: str | None = None) -> Plan:
    """Raise the stake by `add` nanoERG, or change the endpoint."""
    raised = guards.after_raise(bond.content, add, market.height)
    after = raised if endpoint is None else replace(raised, endpoint=endpoint)
    successor = _bond(market, bond, after, bond.value + add)
    return balance(TxKind.MANAGE, (bond.box,), (successor,), funds, market.height, signer=bond.content.node)


def withdraw(market: Market, bond: On[Bond], funds: Funds) -> Plan:
    """Take the stake back; the bond token is burned."""
    payout = Output(bond.value, p2pk_tree(bond.content.node))
    burned = [market.deployment.bond_token]
    return balance(
        TxKind.WITHDRAW, (bond.box,), (payout,), funds, market.height, signer=bond.content.node, burned=burned
    )


def post(market: Market, task: TaskEscrow, funds: Funds) -> Plan:
    """Lock a payment, in ERG or in a token, for one run of a service."""
    escrow = market.output(Guard.TASK, value_of(task), task, units(task.asset, task.payment))
    return balance(TxKind.POST, (), (escrow,), funds, market.height, signer=task.client)


def value_of(task: TaskEscrow) -> int:
    """Returns the nanoERG that a client locks for a task."""
    return guards.escrow_value(task.worth, task.payment, in_token=task.asset is not None)


def claim(market: Market, task: On[TaskEscrow], bond: On[Bond], funds: Funds) -> Plan:
    """Take a task: the node promises to deliver within the execution window.

    The third output is the reserve of the task's own end: what a failure costs the node, in a box that no other transaction can make
    invalid without the claim itself.
    """
    terms = task.content
    claimed = ClaimedTask(
        service_hash=terms.service_hash,
        input_commitment=terms.input_commitment,
        worth=terms.worth,
        payment=terms.payment,
        asset=terms.asset,
        exec_deadline=market.height + terms.exec_window,
        claim_height=market.height,
        holdback_bps=terms.holdback_bps,
        client=terms.client,
        node=bond.content.node,
        locator=terms.locator,
    )
    after = guards.after_claim(bond.content, task.raw_id, terms.worth, market.height)
    named = (
        _bond(market, bond, after),
        market.output(Guard.CLAIMED, task.value, claimed, ((task.raw_id, 2), *task.tokens)),
        Output(RESERVE, p2pk_tree(bond.content.node)),
    )
    return balance(TxKind.CLAIM, (task.box, bond.box), named, funds, market.height, signer=bond.content.node)


def is_reserve_of(box: ErgoBox | Box, claim_id: str) -> bool:
    """Returns true for the reserve that the claim with this transaction id set aside."""
    return str(box.transaction_id) == claim_id and box.index == RESERVE_INDEX and box.value == RESERVE


def release(
    market: Market,
    claimed: On[ClaimedTask],
    receipt: Receipt,
    funds: Funds,
    *,
    reserve: ErgoBox | None = None,
    payout: bytes | None = None,
) -> Plan:
    """Publish the receipt, open the rating with the held share in it, pay the treasury and the node.

    The node's part goes to the tree `payout`, or back to the wallet, as the claim's `reserve` does. It pays for the release, so that no
    wallet box is needed; only where the fee was raised above it are boxes of `funds` added.
    """
    terms = claimed.content
    task_id = task_id_of(claimed)
    held = held_of(terms)
    commit = market.height + RATING_WINDOW
    rating = _rating_of(terms, held=held, outcome=COMPLETED, commit=commit, reveal=commit + RATING_WINDOW)
    opened = _rating_output(market, task_id, rating)
    due = guards.treasury_fee(terms.worth)
    named = (
        market.output(Guard.RECEIPT, RECEIPT_VALUE, receipt, ((task_id, 1),)),
        opened,
        *((_payout(claimed, due, market.deployment.treasury),) if due else ()),
        *_earned(claimed, claimed.value - RECEIPT_VALUE - opened.value - due - funds.fee, held, payout or funds.change),
    )
    return balance(TxKind.RELEASE, _with(claimed, reserve), named, funds, market.height, signer=terms.node)


def _with(claimed: On[ClaimedTask], reserve: ErgoBox | None) -> tuple[ErgoBox, ...]:
    return (claimed.box,) if reserve is None else (claimed.box, reserve)


def held_of(terms: ClaimedTask | TaskEscrow) -> int:
    """Returns the share of a task's payment that its release leaves in the rating, in nanoERG or in units of its token."""
    return guards.held_share(terms.worth, terms.payment, terms.holdback_bps, in_token=terms.asset is not None)


def _earned(claimed: On[ClaimedTask], value: int, held: int, tree: bytes) -> tuple[Output, ...]:
    """What a release leaves to the node, if it is worth a box; what is not goes into the change."""
    terms = claimed.content
    return (Output(value, tree, units(terms.asset, terms.payment - held)),) if value >= DUST else ()


def fail(
    market: Market,
    claimed: On[ClaimedTask],
    failure: FailureReceipt,
    funds: Funds,
    *,
    reserve: ErgoBox | None = None,
) -> Plan:
    """Admit that the task cannot be run and give the client its money back; the node pays for rating and fee, from the claim's reserve."""
    terms = claimed.content
    task_id = task_id_of(claimed)
    reveal = market.height + SLACK // 2
    rating = _rating_of(terms, held=0, outcome=FAILED, commit=0, reveal=reveal)
    named = (
        market.output(Guard.FAILURE, MIN_BOX, failure, ((task_id, 1),)),
        _rating_output(market, task_id, rating),
        _payout(claimed, claimed.value - MIN_BOX, p2pk_tree(terms.client), claimed.tokens[1:]),
    )
    return balance(TxKind.FAIL, _with(claimed, reserve), named, funds, market.height, signer=terms.node)


def _rating_of(terms: ClaimedTask, *, held: int, outcome: int, commit: int, reveal: int) -> Rating:
    return Rating(
        client=terms.client,
        node=terms.node,
        worth=terms.worth,
        held=held,
        asset=terms.asset if held else None,
        outcome=outcome,
        commit_deadline=commit,
        reveal_deadline=reveal,
    )


def _rating_output(market: Market, task_id: bytes, rating: Rating) -> Output:
    in_erg = rating.held if rating.asset is None else 0
    return market.output(Guard.RATING, RATING_VALUE + in_erg, rating, ((task_id, 1), *units(rating.asset, rating.held)))


def timeout(market: Market, claimed: On[ClaimedTask], bond: On[Bond], funds: Funds) -> Plan:
    """Return a task whose deadline passed to its client, with a slice of the bond; the fee comes out of the client's part."""
    terms, funds = claimed.content, _of_the_clients(funds)
    task_id = task_id_of(claimed)
    slice_ = guards.slash(bond.content.amount, terms.worth)
    after = guards.after_timeout(bond.content, task_id, terms.worth)
    named = (
        _bond(market, bond, after, bond.value - slice_),
        _payout(claimed, claimed.value + slice_ - funds.fee, p2pk_tree(terms.client), claimed.tokens[1:]),
    )
    return balance(TxKind.TIMEOUT, (claimed.box, bond.box), named, funds, market.height, signer=None, burned=[task_id])


def _of_the_clients(funds: Funds) -> Funds:
    """The same with a fee that may be taken from a client."""
    return replace(funds, fee=min(funds.fee, MAX_MINER_FEE))


def _payout(
    source: On[TaskEscrow] | On[ClaimedTask] | On[Rating],
    value: int,
    tree: bytes,
    tokens: tuple[tuple[bytes, int], ...] = (),
) -> Output:
    """What a guard pays to somebody: R4 names the box that it is paid for, so that no other guard is satisfied by the same output."""
    return Output(value, tree, tokens, {codec.REGISTER_IDS[0]: codec.coll_byte(source.raw_id)})


def units(asset: bytes | None, amount: int) -> tuple[tuple[bytes, int], ...]:
    """Returns the tokens that hold `amount` units of an asset; none for a payment in ERG."""
    return ((asset, amount),) if asset is not None and amount else ()


def refund(market: Market, task: On[TaskEscrow], funds: Funds) -> Plan:
    """Return a task that nobody claimed in time to its client, less the fee."""
    funds = _of_the_clients(funds)
    client = _payout(task, task.value - funds.fee, p2pk_tree(task.content.client), task.tokens)
    return balance(TxKind.REFUND, (task.box,), (client,), funds, market.height, signer=None)


def cancel(market: Market, task: On[TaskEscrow], funds: Funds) -> Plan:
    """The client takes its own unclaimed task back."""
    client = Output(task.value - funds.fee, p2pk_tree(task.content.client), task.tokens)
    return balance(TxKind.CANCEL, (task.box,), (client,), funds, market.height, signer=task.content.client)


def commit(market: Market, rating: On[Rating], side: Side, commitment: bytes, funds: Funds) -> Plan:
    """Put one side's commitment (32 bytes) into the rating."""
    content = rating.content
    if side is Side.CLIENT:
        after, signer = replace(content, client_commitment=commitment), content.client
    else:
        after, signer = replace(content, node_commitment=commitment), content.node
    successor = market.output(Guard.RATING, rating.value, after, rating.tokens)
    return balance(TxKind.COMMIT, (rating.box,), (successor,), funds, market.height, signer=signer)


def reveal(market: Market, rating: On[Rating], side: Side, mark: int, salt: bytes, funds: Funds) -> Plan:
    """Open one side's commitment: `mark` 1 to 5 and the 32-byte salt it was made with."""
    content = rating.content
    if side is Side.CLIENT:
        after, signer = replace(content, client_mark=mark), content.client
    else:
        after, signer = replace(content, node_mark=mark), content.node
    successor = market.output(Guard.RATING, rating.value, after, rating.tokens)
    return balance(
        TxKind.REVEAL,
        (rating.box,),
        (successor,),
        funds,
        market.height,
        signer=signer,
        variables={0: codec.coll_byte(salt)},
    )


def settle(market: Market, rating: On[Rating], bond: On[Bond], funds: Funds) -> Plan:
    """Fold a rating into its bond and pay or burn the held share; what else the rating holds beyond the fee is the settler's.

    The node may as soon as the rating is final or its client stayed silent, anybody SETTLE_GRACE blocks after the reveal deadline.
    """
    terms = rating.content
    after = guards.after_settle(bond.content, task_id_of(rating), terms)
    named = (_bond(market, bond, after), *((_held_payout(rating),) if terms.held else ()))
    by_node = funds.change == p2pk_tree(terms.node)
    return balance(
        TxKind.SETTLE,
        (rating.box, bond.box),
        named,
        funds,
        market.height,
        signer=terms.node if by_node else None,
        burned=[task_id_of(rating)],
    )


def _held_payout(rating: On[Rating]) -> Output:
    terms = rating.content
    tree = BURN if terms.client_mark == USELESS else p2pk_tree(terms.node)
    return _payout(rating, MIN_BOX if terms.asset else terms.held, tree, rating.tokens[1:])


def reclaim(market: Market, receipt: On[Receipt] | On[FailureReceipt], funds: Funds) -> Plan:
    """Take the value of an old receipt back; its task token is burned.

    A failure receipt is worth no more than a fee: where nothing is left of it, wallet boxes are added and all goes into the change.
    """
    node = receipt.content.node
    left = receipt.value - funds.fee
    payout = (Output(left, p2pk_tree(node)),) if left >= DUST else ()
    burned = [receipt.tokens[0][0]]
    return balance(TxKind.RECLAIM, (receipt.box,), payout, funds, market.height, signer=node, burned=burned)


def send(market: Market, outputs: tuple[Output, ...], funds: Funds) -> Plan:
    """A plain payment from the wallet."""
    return balance(TxKind.SEND, (), outputs, funds, market.height, signer=_key(funds))


def task_id_of(claimed: On[ClaimedTask] | On[Rating]) -> bytes:
    """The task id is the id of the token that the claim minted."""
    return claimed.tokens[0][0]


def receipt_for(
    claimed: On[ClaimedTask], output_hash: bytes, params_hash: bytes, node_sig: bytes, cid: bytes
) -> Receipt:
    """The receipt box content for a claimed task."""
    terms = claimed.content
    return Receipt(task_id_of(claimed), terms.input_commitment, output_hash, params_hash, terms.node, node_sig, cid)


def rater_key(rating: Rating, side: Side) -> bytes:
    return rating.client if side is Side.CLIENT else rating.node


def commitment_of(rating: On[Rating], side: Side, mark: int, salt: bytes) -> bytes:
    """The commitment of one side to a mark (1 to 5) on this rating."""
    if mark not in range(1, 6):
        raise UsageError(f"rating: {mark} is not a mark from 1 to 5")
    return hashes.rating_commitment(mark, salt, task_id_of(rating), rater_key(rating.content, side))


def _bond(market: Market, bond: On[Bond], after: Bond, value: int | None = None) -> Output:
    return market.output(Guard.BOND, bond.value if value is None else value, after, bond.tokens)


def _key(funds: Funds) -> bytes:
    """The public key behind the change tree, which is the wallet's own P2PK."""
    if len(funds.change) != 36 or not funds.change.startswith(b"\x00\x08\xcd"):
        raise UsageError(f"funds: change goes to tree {funds.change.hex()[:80]}, expected a single public key")
    return funds.change[3:]


def boxes_of(plan: Plan) -> list[ErgoBox]:
    """The boxes a plan creates, ids included: a transaction's id does not depend on its proofs."""
    return list(plan.unsigned().outputs)
