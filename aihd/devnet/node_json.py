"""The JSON shapes of a node: boxes, transactions, blocks, and those of its extra index."""

from __future__ import annotations

import json

from aihd.devnet.blocks import Block, JsonObject
from aihd.devnet.chain import Chain
from aihd.devnet.ledger import ChainBox, ChainTx, Token
from aihd.devnet.views import BoxView, TxView
from aihd.protocol.trees import address_of


class NodeJson:
    """Writes what a chain holds as a node would."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def box(self, view: BoxView) -> JsonObject:
        """A box."""
        shape: JsonObject = json.loads(view.box.json())
        return shape

    def transaction(self, view: TxView) -> JsonObject:
        """A transaction as in a block."""
        return {**json.loads(view.tx.json()), "size": view.size}

    def pool_transaction(self, view: TxView) -> JsonObject:
        """A waiting transaction: its inputs carry the boxes that they spend, where these are still there."""
        shape = self.transaction(view)
        shape["inputs"] = [{**self._resolved(i["boxId"]), **i} for i in shape["inputs"]]
        return shape

    def block_transactions(self, block: Block) -> JsonObject:
        """The transactions section of a block."""
        return {
            "headerId": block.block_id,
            "transactions": [self.transaction(view) for view in block.transactions],
            "blockVersion": block.header["version"],
            "size": sum(view.size for view in block.transactions),
        }

    def block(self, block: Block) -> JsonObject:
        """A full block."""
        return {
            "header": block.header,
            "blockTransactions": self.block_transactions(block),
            "extension": {"headerId": block.block_id, "digest": block.header["extensionHash"], "fields": []},
            "adProofs": None,
            "size": block.size,
        }

    def indexed_box(self, box: ChainBox) -> JsonObject:
        """IndexedErgoBox."""
        return {**self.box(box.view), **self._indexed(box.view, box.gix, box.height)}

    def indexed_pool_box(self, view: BoxView) -> JsonObject:
        """IndexedErgoBox of a box that only the mempool has: global index and height are 0."""
        return {**self.box(view), **self._indexed(view, 0, 0)}

    def indexed_transaction(self, row: ChainTx) -> JsonObject:
        """IndexedErgoTransaction."""
        ledger, shape = self._chain.ledger, self.transaction(row.view)
        return {
            **shape,
            "inputs": [{**self.indexed_box(ledger.boxes[i["boxId"]]), **i} for i in shape["inputs"]],
            "outputs": [self.indexed_box(ledger.boxes[view.box_id]) for view in row.view.outputs],
            "inclusionHeight": row.height,
            "numConfirmations": self._chain.height - row.height,
            "blockId": row.block_id,
            "timestamp": row.timestamp,
            "index": row.index,
            "globalIndex": row.gix,
        }

    def token(self, token: Token) -> JsonObject:
        """IndexedToken."""
        return {
            "id": token.token_id,
            "boxId": token.box_id,
            "emissionAmount": token.emission,
            "name": token.name or "",
            "description": token.description or "",
            "decimals": token.decimals or 0,
        }

    def _indexed(self, view: BoxView, gix: int, height: int) -> JsonObject:
        spender = self._chain.ledger.spender(view.box_id)
        return {
            "globalIndex": gix,
            "inclusionHeight": height,
            "address": address_of(bytes.fromhex(view.tree), self._chain.network),
            "spentTransactionId": spender,
            "spendingProof": self._proof(view.box_id, spender) if spender else None,
        }

    def _proof(self, box_id: str, spender: str) -> JsonObject:
        view = self._chain.ledger.transactions[spender].view
        proof: JsonObject = json.loads(view.tx.inputs[view.inputs.index(box_id)].spending_proof.json())
        return proof

    def _resolved(self, box_id: str) -> JsonObject:
        box = self._chain.unconfirmed_box(box_id)
        shape: JsonObject = json.loads(box.json()) if box else {}
        return shape
