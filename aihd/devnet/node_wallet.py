"""A node's wallet routes, as far as they need no key of the node: signing with keys that the request brings.

Every one of them asks for the API key.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web
from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import UnsignedTransaction
from ergo_lib_python.wallet import SecretKey, Wallet

from aihd.devnet.blocks import JsonObject
from aihd.devnet.chain import Chain
from aihd.devnet.http import HttpError
from aihd.devnet.node_http import FORBIDDEN, MALFORMED, entity
from aihd.protocol.panics import contained


class NodeWallet:
    """Handlers of the routes."""

    def __init__(self, chain: Chain, api_key: str) -> None:
        self._chain, self._api_key = chain, api_key

    def routes(self) -> list[web.RouteDef]:
        """All routes."""
        return [
            web.get("/wallet/status", self.status),
            web.post("/wallet/transaction/sign", self.sign),
            web.route("*", "/wallet/{rest:.*}", self.none),
        ]

    async def status(self, request: web.Request) -> web.Response:
        """A wallet that was never made."""
        self._admit(request)
        state = {"isInitialized": False, "isUnlocked": False, "changeAddress": "", "walletHeight": 0, "error": ""}
        return web.json_response(state)

    async def sign(self, request: web.Request) -> web.Response:
        """Signs `tx` with `secrets.dlog`; boxes come from `inputsRaw` and `dataInputsRaw`, else from chain and mempool."""
        self._admit(request)
        body = await entity(request)
        try:
            return web.json_response(self._signed(body))
        except HttpError:
            raise
        except KeyError as error:
            way = f"DownField({error.args[0]})"
            raise HttpError(400, f"{MALFORMED}Attempt to decode value on failed cursor: {way}") from error
        except Exception as error:  # ergo-lib has many errors for what it cannot read or prove
            raise HttpError(
                400, "Failed to sign the transaction: it cannot be read, or the secrets do not prove it"
            ) from error

    async def none(self, request: web.Request) -> web.Response:
        """Refuses."""
        self._admit(request)
        raise HttpError(400, "this devnet has no wallet: it signs with keys that a request brings, and no others")

    def _admit(self, request: web.Request) -> None:
        if not hmac.compare_digest(request.headers.get("api_key", "").encode(), self._api_key.encode()):
            raise HttpError(403, FORBIDDEN)

    def _signed(self, body: Any) -> JsonObject:
        secrets = body["secrets"].get("dlog") or []
        if not secrets or body["secrets"].get("dht"):
            raise HttpError(
                400, "this devnet has no wallet and signs for dlog secrets alone: name them in secrets.dlog"
            )
        wallet = Wallet([SecretKey.from_bytes(bytes.fromhex(secret)) for secret in secrets])
        unsigned = contained(lambda: UnsignedTransaction.from_json(body["tx"]))
        boxes = self._boxes(body.get("inputsRaw"), [str(i.box_id) for i in unsigned.inputs], "input")
        data = self._boxes(body.get("dataInputsRaw"), [str(d.box_id) for d in unsigned.data_inputs], "data input")
        signed = contained(lambda: wallet.sign_transaction(unsigned, boxes, data, self._chain.context))
        shape: JsonObject = json.loads(signed.json())
        return shape

    def _boxes(self, raw: Sequence[str] | None, ids: Sequence[str], name: str) -> list[ErgoBox]:
        if raw:
            return [ErgoBox.from_bytes(bytes.fromhex(each)) for each in raw]
        boxes = []
        for box_id in ids:
            box = self._chain.unconfirmed_box(box_id)
            if box is None:
                raise HttpError(400, f"{name} {box_id} not found")
            boxes.append(box)
        return boxes
