"""The JSON shapes of a node: boxes, transactions, blocks, and those of its extra index."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from aihd.devnet.blocks import Block, JsonObject, extension_fields, proofs_of
from aihd.devnet.chain import Chain
from aihd.devnet.history import History
from aihd.devnet.ledger import ChainBox, ChainTx, Ledger, Token
from aihd.devnet.views import BoxView, TxView
from aihd.devnet.wire import spending_proofs
from aihd.protocol.trees import address_of


class NodeJson:
    """Writes what a chain holds as a node would; `seen` is what its extra index has read by now."""

    def __init__(self, chain: Chain, seen: Callable[[], History]) -> None:
        self._chain = chain
        self._seen = seen
        # A devnet has few scripts and shows them often.
        self._address = lru_cache(8192)(lambda tree: address_of(bytes.fromhex(tree), chain.network))

    @property
    def _ledger(self) -> Ledger:
        return self._seen().ledger

    def box(self, view: BoxView) -> JsonObject:
        """A box."""
        return {
            "boxId": view.box_id,
            "value": view.value,
            "ergoTree": view.tree,
            "assets": [{"tokenId": token_id, "amount": amount} for token_id, amount in view.tokens],
            "creationHeight": view.creation_height,
            "additionalRegisters": {f"R{number}": text for number, text in enumerate(view.registers, 4)},
            "transactionId": view.tx_id,
            "index": view.index,
        }

    def transaction(self, view: TxView) -> JsonObject:
        """A transaction as in a block."""
        spent = zip(view.inputs, spending_proofs(view), strict=True)
        return {
            "id": view.tx_id,
            "inputs": [{"boxId": box_id, "spendingProof": proof} for box_id, proof in spent],
            "dataInputs": [{"boxId": box_id} for box_id in view.data_inputs],
            "outputs": list(map(self.box, view.outputs)),
            "size": view.size,
        }

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
            "extension": self.extension(block),
            "adProofs": ad_proofs(block),
            "size": block.size,
        }

    def extension(self, block: Block) -> JsonObject:
        """The extension section of a block."""
        genesis = self._chain.blocks[0].block_id if block.height > 1 else ""
        fields = extension_fields(genesis)
        return {"headerId": block.block_id, "digest": block.header["extensionHash"], "fields": fields}

    def popow_header(self, block: Block) -> JsonObject:
        """A header with its interlinks: here the first block alone, whose leaf is the whole tree."""
        digest = block.header["extensionHash"]
        interlinks = [value[2:] for _, value in self.extension(block)["fields"]]
        proof = {"indices": [{"index": place, "digest": digest} for place in range(len(interlinks))], "proofs": []}
        return {"header": block.header, "interlinks": interlinks, "interlinksProof": proof}

    def spent_input(self, box: BoxView, spender: TxView) -> JsonObject:
        """An input of a waiting transaction with the box that it spends."""
        return {**self.box(box), "spendingProof": _proof(box.box_id, spender)}

    def indexed_box(self, box: ChainBox) -> JsonObject:
        """IndexedErgoBox."""
        return {**self.box(box.view), **self._indexed(box.view, box.gix, box.height)}

    def indexed_pool_box(self, view: BoxView) -> JsonObject:
        """IndexedErgoBox of a box that only the mempool has: global index and height are 0."""
        return {**self.box(view), **self._indexed(view, 0, 0)}

    def indexed_transaction(self, row: ChainTx) -> JsonObject:
        """IndexedErgoTransaction."""
        boxes, shape = self._ledger.boxes, self.transaction(row.view)
        return {
            **shape,
            "inputs": [{**self.indexed_box(boxes[i["boxId"]]), **i} for i in shape["inputs"]],
            "outputs": [self.indexed_box(boxes[view.box_id]) for view in row.view.outputs],
            "inclusionHeight": row.height,
            "numConfirmations": self._seen().height - row.height,
            "blockId": row.block_id,
            "timestamp": row.timestamp,
            "index": row.index,
            "globalIndex": row.gix,
        }

    def indexed_block(self, block: Block) -> JsonObject:
        """A block with indexed transactions."""
        rows = [self._ledger.transactions[view.tx_id] for view in block.transactions]
        shapes = list(map(self.indexed_transaction, rows))
        size = sum(view.size for view in block.transactions)
        return {"header": block.header, "transactions": shapes, "height": block.height, "size": size}

    def balance(self, boxes: Iterable[BoxView]) -> JsonObject:
        """BalanceInfo over boxes."""
        nano_ergs, held = 0, dict[str, int]()
        for box in boxes:
            nano_ergs += box.value
            for token_id, amount in box.tokens:
                held[token_id] = held.get(token_id, 0) + amount
        return {"nanoErgs": nano_ergs, "tokens": [self._holding(*entry) for entry in held.items()]}

    def _holding(self, token_id: str, amount: int) -> JsonObject:
        token = self._ledger.tokens.get(token_id)
        decimals, name = (token.decimals_or_int, token.name or "") if token else (0, "")
        return {"tokenId": token_id, "amount": amount, "decimals": decimals, "name": name}

    def token(self, token: Token) -> JsonObject:
        """IndexedToken."""
        return {
            "id": token.token_id,
            "boxId": token.box_id,
            "emissionAmount": token.emission,
            "name": token.name or "",
            "description": token.description or "",
            "decimals": token.decimals_or_int,
        }

    def _indexed(self, view: BoxView, gix: int, height: int) -> JsonObject:
        spender = self._ledger.spender(view.box_id)
        row = self._ledger.transactions[spender] if spender else None
        return {
            "globalIndex": gix,
            "inclusionHeight": height,
            "address": self._address(view.tree),
            "spentTransactionId": spender,
            "spendingProof": _proof(view.box_id, row.view) if row else None,
        }

    def _resolved(self, box_id: str) -> JsonObject:
        box = self._chain.unconfirmed_view(box_id)
        return self.box(box) if box else {}


def ad_proofs(block: Block) -> JsonObject:
    """The AD proofs section of a block."""
    proofs, digest = proofs_of(block.header), block.header["adProofsRoot"]
    return {"headerId": block.block_id, "proofBytes": proofs.hex(), "digest": digest, "size": len(proofs)}


def _proof(box_id: str, spender: TxView) -> JsonObject:
    return spending_proofs(spender)[spender.inputs.index(box_id)]
