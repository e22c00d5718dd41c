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
    MAX_MINER_FEE,
    MIN_BOX,
    RATING_VALUE,
    RECEIPT_VALUE,
    WINDOW_MAX,
    WINDOW_MIN,
)
from aihd.protocol.deployment import Deployment, Guard
from aihd.protocol.funding import Funds, Output, Plan, TxKind, balance
from aihd.protocol.trees import p2pk_tree

# Declared heights lie in the middle of what the guards allow: as many blocks to be late as to be early.
RATING_WINDOW: Final = (WINDOW_MIN + WINDOW_MAX) // 2
# A bond takes part in lotteries from the block after `born` on, so this lead is kept short.
BIRTH_LEAD: Final = 5
MINTER_VALUE: Final = 2 * MIN_BOX
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
    born = market.height + BIRTH_LEAD
    bond = Bond(node, amount, born=born, last_activity=born, endpoint=endpoint)
    ((token, supply),) = minter.tokens
    named = (
        market.output(Guard.MINTER, minter.value, Minter(), ((token, supply - 1),)),
        market.output(Guard.BOND, amount + BOND_RESERVE, bond, ((token, 1),)),
    )
    return balance(TxKind.OPEN_BOND, (minter.box,), named, funds, market.height, signer=_key(funds))


def manage(market: Market, bond: On[Bond], funds: Funds, *, add: int = 0, endpoint: str | None = None) -> Plan:
    """Raise the stake by `add` nanoERG, or change the endpoint."""
    after = replace(
        bond.content,
        amount=bond.content.amount + add,
        endpoint=bond.content.endpoint if endpoint is None else endpoint,
    )
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
    """Lock a payment for one run of a service."""
    escrow = market.output(Guard.TASK, escrow_value(task.payment), task, ())
    return balance(TxKind.POST, (), (escrow,), funds, market.height, signer=task.client)


def escrow_value(payment: int) -> int:
    """nanoERG that a client locks for a payment."""
    return payment + RECEIPT_VALUE + RATING_VALUE


def claim(market: Market, task: On[TaskEscrow], bond: On[Bond], funds: Funds) -> Plan:
    """Take a task: the node promises to deliver within the execution window."""
    terms = task.content
    claimed = ClaimedTask(
        terms.service_hash,
        terms.input_commitment,
        terms.payment,
        market.height + terms.exec_window,
        market.height,
        terms.client,
        bond.content.node,
        terms.locator,
    )
    after = guards.after_claim(bond.content, task.raw_id, terms.payment, market.height)
    named = (
        _bond(market, bond, after),
        market.output(Guard.CLAIMED, task.value, claimed, ((task.raw_id, 2),)),
    )
    return balance(TxKind.CLAIM, (task.box, bond.box), named, funds, market.height, signer=bond.content.node)


def release(
    market: Market,
    claimed: On[ClaimedTask],
    bond: On[Bond],
    receipt: Receipt,
    funds: Funds,
    *,
    payout: bytes | None = None,
) -> Plan:
    """Publish the receipt, open the rating, pay the treasury.

    The rest of the payment is change of the node, or goes to the tree `payout`; fees are always the wallet's.
    """
    terms = claimed.content
    task_id = task_id_of(claimed)
    commit = market.height + RATING_WINDOW
    rating = Rating(terms.client, terms.node, terms.payment, commit, commit + RATING_WINDOW)
    fee = guards.treasury_fee(terms.payment)
    named = (
        _bond(market, bond, guards.after_release(bond.content, terms.payment, market.height)),
        market.output(Guard.RECEIPT, RECEIPT_VALUE, receipt, ((task_id, 1),)),
        market.output(Guard.RATING, RATING_VALUE, rating, ((task_id, 1),)),
        *((Output(fee, market.deployment.treasury),) if fee else ()),
        *((Output(claimed.value - RECEIPT_VALUE - RATING_VALUE - fee, payout),) if payout else ()),
    )
    return balance(TxKind.RELEASE, (claimed.box, bond.box), named, funds, market.height, signer=terms.node)


def fail(market: Market, claimed: On[ClaimedTask], bond: On[Bond], failure: FailureReceipt, funds: Funds) -> Plan:
    """Admit that the task cannot be run and give the client its money back."""
    terms = claimed.content
    task_id = task_id_of(claimed)
    named = (
        _bond(market, bond, guards.after_fail(bond.content, task_id, terms.payment, market.height)),
        market.output(Guard.FAILURE, RECEIPT_VALUE, failure, ((task_id, 2),)),
        Output(claimed.value - RECEIPT_VALUE, p2pk_tree(terms.client)),
    )
    return balance(TxKind.FAIL, (claimed.box, bond.box), named, funds, market.height, signer=terms.node)


def timeout(market: Market, claimed: On[ClaimedTask], bond: On[Bond], funds: Funds) -> Plan:
    """Return a task whose deadline passed to its client, with a slice of the bond; the fee comes out of the client's part."""
    terms, funds = claimed.content, _of_the_clients(funds)
    task_id = task_id_of(claimed)
    slice_ = guards.slash(bond.content.amount, terms.payment)
    after = guards.after_timeout(bond.content, task_id, terms.payment)
    named = (
        _bond(market, bond, after, bond.value - slice_),
        Output(claimed.value + slice_ - funds.fee, p2pk_tree(terms.client)),
    )
    return balance(TxKind.TIMEOUT, (claimed.box, bond.box), named, funds, market.height, signer=None, burned=[task_id])


def _of_the_clients(funds: Funds) -> Funds:
    """The same with a fee that may be taken from a client."""
    return replace(funds, fee=min(funds.fee, MAX_MINER_FEE))


def refund(market: Market, task: On[TaskEscrow], funds: Funds) -> Plan:
    """Return a task that nobody claimed in time to its client, less the fee."""
    funds = _of_the_clients(funds)
    client = Output(
        task.value - funds.fee,
        p2pk_tree(task.content.client),
        registers={codec.REGISTER_IDS[0]: codec.coll_byte(task.raw_id)},
    )
    return balance(TxKind.REFUND, (task.box,), (client,), funds, market.height, signer=None)


def cancel(market: Market, task: On[TaskEscrow], funds: Funds) -> Plan:
    """The client takes its own unclaimed task back."""
    client = Output(task.value - funds.fee, p2pk_tree(task.content.client))
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
    """Fold a final rating into its bond; what the rating holds beyond the fee is the settler's."""
    task_id = rating.tokens[0][0]
    after = guards.after_settle(bond.content, task_id, rating.content)
    return balance(
        TxKind.SETTLE,
        (rating.box, bond.box),
        (_bond(market, bond, after),),
        funds,
        market.height,
        signer=None,
        burned=[task_id],
    )


def reclaim(market: Market, receipt: On[Receipt] | On[FailureReceipt], funds: Funds) -> Plan:
    """Take the value of an old receipt back; its task token is burned."""
    node = receipt.content.node
    payout = Output(receipt.value - funds.fee, p2pk_tree(node))
    burned = [receipt.tokens[0][0]]
    return balance(TxKind.RECLAIM, (receipt.box,), (payout,), funds, market.height, signer=node, burned=burned)


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
