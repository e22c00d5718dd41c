from __future__ import annotations

import pytest
from devnet_wallet import ERG, FEE, key

from aihd.devnet import Devnet, RejectedError
from aihd.devnet.parameters import MAX_TX_COST

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
