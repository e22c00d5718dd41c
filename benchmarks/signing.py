"""Planning, judging and signing a claim against ergo-lib's signature alone."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.result import Result, best_of

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from ergo_lib_python.wallet import DerivationPath, ExtSecretKey, Wallet
from offchain import PARAMETERS, Story, headers

from aihd.core.signing import Spending, Spent
from aihd.protocol import plans
from aihd.protocol.context import state_context

ROUNDS = 50


def signing() -> Result:
    story = Story()
    task = story.post()
    funds = story.funds(story.node)
    permit = story.node.permit(story.deployment, Spending(10**9, 10**12, 10**12, 10**12))
    newest = headers(story.tip)

    def ours() -> None:
        for _ in range(ROUNDS):
            plan = plans.claim(story.market, task, story.bond, funds)
            story.node.sign(plan, newest, PARAMETERS, permit=permit, spent=Spent(0, 0))

    plan = plans.claim(story.market, task, story.bond, funds)
    unsigned, inputs, context = plan.unsigned(), list(plan.inputs), state_context(newest, PARAMETERS)
    key = ExtSecretKey.from_mnemonic("the key of node", "").derive(DerivationPath(0, [0])).secret_key()
    wallet = Wallet([key])
    floor = best_of(3, lambda: [wallet.sign_transaction(unsigned, inputs, [], context) for _ in range(ROUNDS)])
    return Result(
        "plan, judge and sign a claim", best_of(3, ours) / ROUNDS, floor / ROUNDS, "ergo-lib's signature alone"
    )
