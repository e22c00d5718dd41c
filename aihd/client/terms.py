"""What posting a task means for a client's money, in words."""

from __future__ import annotations

from functools import partial

from aihd.client.client import Order
from aihd.core.assets import Assets, show_amount
from aihd.protocol import guards
from aihd.protocol.units import format_erg


def in_words(order: Order, assets: Assets) -> tuple[str, str]:
    """Two lines: what is locked and when it comes back; what the holdback means for node and client."""
    show, in_token = partial(show_amount, assets, order.asset), order.asset is not None
    value = guards.escrow_value(order.worth, order.payment, in_token=in_token)
    locked = f"{show(order.payment)} and {format_erg(value)}" if in_token else format_erg(value)
    held = guards.held_share(order.worth, order.payment, order.holdback_bps, in_token=in_token)
    first = (
        f"Locks {locked}: the payment of {show(order.payment)}, and {format_erg(value - (0 if in_token else order.payment))} for "
        f"receipt and rating; all but a fee comes back if nobody claims the task within {order.claim_window} blocks, "
        f"or the node does not deliver within {order.exec_window}."
    )
    if not held:
        return (
            first,
            "Nothing is held back: the node is paid in full when it publishes a receipt, whatever the output is worth.",
        )
    share = f"{show(held)} ({order.holdback_bps / 100:g} % after fees)" if not in_token else f"{show(held)}"
    return first, (
        f"{share} wait for your mark: rate the task 1 and they are burned, which gives you nothing back; "
        f"with any other mark, or none, the node gets them."
    )
