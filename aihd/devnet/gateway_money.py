"""Payments at the embedded gateway: deposit tokens, and what `Payable` makes of one."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.message import Message

from aihd.devnet.gateway_clients import NodeError
from aihd.devnet.gateway_rows import Rows
from aihd.nodo.frames import decode
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb import aihd_gateway_2024_pb2 as old
from aihd.nodo.profiles import Profile

Validator: TypeAlias = Callable[[int, str, bytes], bool]
"""(amount in the node's unit, deposit token, the serialized contract): whether the payment was made."""


def refuse(amount: int, token: str, contract: bytes) -> bool:
    """Takes no payment."""
    return False


@dataclass(frozen=True, slots=True)
class Paid:
    """A payment as a client tells it."""

    amount: int
    token: str
    contract: bytes


async def read_payment(frames: AsyncIterator[bytes], profile: Profile) -> tuple[Paid, str]:
    """The payment of a call, and the client id that goes with it; NodeError without a payment."""
    kinds: dict[int, type[Message]] = {1: old.Payment if profile.wrapped else pb.Payment, 2: pb.Client}
    paid, client = None, ""
    async with aclosing(decode(frames, kinds)) as messages:
        async for message in messages:
            match message:
                case pb.Payment():
                    paid = Paid(int(message.amount.n or 0), message.deposit_token, message.contract.SerializeToString())
                case old.Payment():
                    contract = message.contract_ledger.SerializeToString()
                    paid = Paid(int(message.gas_amount.n or 0), message.deposit_token, contract)
                case pb.Client():
                    client = message.client_id
    if paid is None:
        raise NodeError("No payment was sent.")
    return paid, client


def new_token(rows: Rows, client: str) -> str:
    """A deposit token for a client, pending."""
    token = str(uuid.uuid4())
    with rows.opened() as connection:
        sql = "INSERT INTO deposit_tokens (id, client_id, status) VALUES (?, ?, 'pending')"
        connection.execute(sql, (token, client))
    return token


def settle(rows: Rows, paid: Paid, validate: Validator) -> bool:
    """Credit the client of a deposit token, once; NodeError for a token that is not pending. A refused one is burned."""
    with rows.opened() as connection:
        sql = "SELECT client_id FROM deposit_tokens WHERE id = ? AND status = 'pending'"
        row = connection.execute(sql, (paid.token,)).fetchone()
        if row is None:
            raise NodeError(f"Deposit token {paid.token} doesn't exists.")
        made = validate(paid.amount, paid.token, paid.contract)
        if made:
            rows.spend(row[0], -paid.amount, paid.token)
        status = "payed" if made else "rejected"
        connection.execute("UPDATE deposit_tokens SET status = ? WHERE id = ?", (status, paid.token))
    return made
