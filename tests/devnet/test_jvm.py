from __future__ import annotations

from collections.abc import Sequence

import pytest
from devnet_wallet import ERG, FEE, funded, key, out
from ergo_lib_python.chain import Constant, ContextExtension
from ergo_lib_python.transaction import UnsignedInput, UnsignedTransaction
from ergo_lib_python.wallet import Wallet

from aihd.chain.appkit import Appkit
from aihd.devnet import Chain, Devnet, RejectedError
from aihd.devnet.judge import second_opinion
from aihd.devnet.parameters import MAX_TX_COST
from aihd.devnet.views import view_transaction
from aihd.protocol.trees import FEE_TREE

A = key(1)
NINTH_HEADER = "{ sigmaProp(CONTEXT.headers(9).height > 0) && PK }"  # ten headers exist in a wallet, nine in a block


@pytest.mark.jvm
@pytest.mark.asyncio
async def test_jvm__when__on__then__its_cost_counts_and_what_it_alone_refuses_is_refused() -> None:
    async with Devnet(jvm=True) as devnet:
        chain, alice = devnet.chain, devnet.account("alice")
        chain.faucet(alice.address, 10 * ERG)
        chain.mine()
        alice.send(A.address, ERG)
        (entry,) = chain.pool
        counted = 10_000 + chain.parameters["inputCost"] + 3 * chain.parameters["outputCost"]
        assert counted < entry.cost < MAX_TX_COST  # more than what is charged before any script runs
        chain.mine()
        assert chain.judge.appkit is not None and chain.judge.disagreements == 0
        tree = chain.judge.appkit.compile(NINTH_HEADER.replace("PK", f'PK("{alice.address}")'))
        guarded = alice.send(tree, ERG).outputs[0]
        chain.mine()
        with pytest.raises(RejectedError, match="#0 => Failure\\(the JVM: "):
            alice.transact([alice.output(alice.address, ERG - FEE + 100_000)], spend=[guarded])
        assert chain.judge.disagreements == 1 and len(chain.pool) == 0


@pytest.mark.jvm
@pytest.mark.parametrize(
    "numbers", [range(4), range(5), (0, 1, 2, 3, 5), range(6), range(12), (1, 3, 9, 20, 40, 100, 127)]
)
def test_jvm__reads_context_variables__in_the_order_that_the_devnet_takes_for_the_reference_s(
    numbers: Sequence[int],
) -> None:
    chain = Chain()
    box = funded(chain, A)
    variables = ContextExtension({number: Constant.from_i32(number) for number in numbers})
    outputs = [out(box.value - FEE, A.tree, chain.height), out(FEE, FEE_TREE, chain.height)]
    draft = UnsignedTransaction([UnsignedInput(box.box_id, variables)], [], outputs)
    tx = Wallet([A.secret]).sign_transaction(draft, [box], [], chain.context)
    with Appkit() as jvm:
        judged = second_opinion(jvm, view_transaction(tx), [box], [], chain.blocks, chain.parameters)
    try:
        taken = bool(chain.submit(tx))
    except RejectedError:
        taken = False
    assert all(each.ok for each in judged.inputs) is taken
