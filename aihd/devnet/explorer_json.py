"""The JSON shapes of the Explorer: boxes, inputs, transactions, blocks.

`ergoTreeScript` is always empty: there is no decompiler here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache

from aihd.devnet.blocks import DIFFICULTY, Block, JsonObject
from aihd.devnet.chain import Chain
from aihd.devnet.ledger import ChainBox, ChainTx, Token
from aihd.devnet.mempool import PoolTx
from aihd.devnet.render import render, tree_constants
from aihd.devnet.views import BoxView, TxView
from aihd.protocol.trees import GENERATOR, address_of, p2pk_tree

EPOCH = 1024  # blocks, as the Explorer counts epochs

_HEADER_KEYS = (
    *("id", "parentId", "version", "timestamp", "height", "nBits", "votes"),
    *("stateRoot", "adProofsRoot", "transactionsRoot", "extensionHash"),
)


class ExplorerJson:
    """Writes what a chain holds as the Explorer would."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._address = lru_cache(8192)(lambda tree: address_of(bytes.fromhex(tree), chain.network))

    def output(self, box: ChainBox, main_chain: bool = True) -> JsonObject:
        """OutputInfo of a box in a block."""
        return {
            **self._output(box.view),
            "blockId": box.block_id,
            "globalIndex": box.gix,
            "settlementHeight": box.height,
            "spentTransactionId": self._chain.ledger.spender(box.view.box_id) if main_chain else None,
            "mainChain": main_chain,
        }

    def pool_output(self, view: BoxView) -> JsonObject:
        """OutputInfo of a box that only the mempool has."""
        nulls = dict.fromkeys(("blockId", "globalIndex", "settlementHeight", "spentTransactionId"))
        return {**self._output(view), **nulls, "mainChain": False}

    def transaction(self, row: ChainTx) -> JsonObject:
        """TransactionInfo."""
        view = row.view
        return {
            "id": view.tx_id,
            "blockId": row.block_id,
            "inclusionHeight": row.height,
            "timestamp": row.timestamp,
            "index": row.index,
            "globalIndex": row.gix,
            "numConfirmations": self._chain.height - row.height + 1,
            "inputs": self._inputs(view),
            "dataInputs": self._data_inputs(view),
            "outputs": [self._created(box) for box in view.outputs],
            "size": view.size,
        }

    def pool_transaction(self, entry: PoolTx) -> JsonObject:
        """UTransactionInfo."""
        view = entry.view
        return {
            "id": view.tx_id,
            "creationTimestamp": entry.arrived,
            "inputs": self._inputs(view),
            "dataInputs": self._data_inputs(view),
            "outputs": [
                {**self._output(box), "spentTransactionId": self._chain.pool.spender(box.box_id)}
                for box in view.outputs
            ],
            "size": view.size,
        }

    def pool_transaction_v0(self, entry: PoolTx) -> JsonObject:
        """UTransactionInfo of the old API, where ids of boxes are called `id`."""
        whole = self.pool_transaction(entry)
        inputs = ("value", "index", "spendingProof", "outputTransactionId", "outputIndex", "address")
        outputs = ("value", "index", "creationHeight", "ergoTree", "address", "assets", "additionalRegisters")
        return {
            "id": whole["id"],
            "creationTimestamp": whole["creationTimestamp"],
            "inputs": [
                {"id": i["boxId"], "transactionId": whole["id"], **{key: i[key] for key in inputs}}
                for i in whole["inputs"]
            ],
            "outputs": [
                {"id": o["boxId"], "txId": whole["id"], **{key: o[key] for key in outputs}} for o in whole["outputs"]
            ],
            "size": whole["size"],
        }

    def header(self, block: Block) -> JsonObject:
        """Header as the Explorer lists it: close to the node's, but `powSolutions.d` is a string."""
        solution = block.header["powSolutions"]
        kept = {key: block.header[key] for key in _HEADER_KEYS}
        return {**kept, "powSolutions": {**solution, "d": str(solution["d"])}}

    def block_info(self, block: Block) -> JsonObject:
        """BlockInfo."""
        miner = self._address(p2pk_tree(GENERATOR).hex())
        return {
            "id": block.block_id,
            "height": block.height,
            "epoch": block.height // EPOCH,
            "version": block.header["version"],
            "timestamp": block.header["timestamp"],
            "transactionsCount": len(block.transactions),
            "miner": {"address": miner, "name": miner[-8:]},
            "size": block.size,
            "difficulty": DIFFICULTY,
            "minerReward": 0,
        }

    def block(self, block: Block) -> JsonObject:
        """BlockSummary: the whole block and its neighbours."""
        main = self._chain.is_main(block)
        following = self._chain.blocks[block.height] if main and block.height < self._chain.height else None
        header = {**self.header(block), "difficulty": DIFFICULTY, "size": block.header["size"]}
        return {
            "block": {
                "header": header,
                "blockTransactions": [self.transaction(row) for row in self._rows(block)],
                "extension": {"headerId": block.block_id, "digest": block.header["extensionHash"], "fields": {}},
                "adProofs": None,
            },
            "references": {
                "previousId": block.header["parentId"],
                "nextId": following.block_id if following else None,
            },
        }

    def token(self, token: Token) -> JsonObject:
        """TokenInfo."""
        return {
            "id": token.token_id,
            "boxId": token.box_id,
            "emissionAmount": token.emission,
            "name": token.name,
            "description": token.description,
            "type": token.kind,
            "decimals": token.decimals,
        }

    def balance(self, boxes: Iterable[BoxView]) -> JsonObject:
        """Balance over boxes."""
        nano_ergs, tokens = 0, dict[str, int]()
        for box in boxes:
            nano_ergs += box.value
            for token_id, amount in box.tokens:
                tokens[token_id] = tokens.get(token_id, 0) + amount
        return {"nanoErgs": nano_ergs, "tokens": [self._holding(*held) for held in tokens.items()]}

    def _holding(self, token_id: str, amount: int) -> JsonObject:
        token = self._chain.ledger.tokens.get(token_id)
        return {
            "tokenId": token_id,
            "amount": amount,
            "decimals": (token and token.decimals) or 0,
            "name": token and token.name,
            "tokenType": token and token.kind,
        }

    def _rows(self, block: Block) -> list[ChainTx]:
        known = self._chain.ledger.transactions
        if self._chain.is_main(block):
            return [known[view.tx_id] for view in block.transactions]
        time = block.header["timestamp"]
        return [ChainTx(v, 0, i, block.height, block.block_id, time) for i, v in enumerate(block.transactions)]

    def _created(self, view: BoxView) -> JsonObject:
        ledger = self._chain.ledger
        row = ledger.boxes.get(view.box_id)
        return self.output(row) if row else self.output(ledger.orphans[view.box_id], main_chain=False)

    def _inputs(self, view: TxView) -> list[JsonObject]:
        proofs = (bytes(i.spending_proof.proof).hex() or None for i in view.tx.inputs)
        return [
            {**self._spent(box_id, index), "spendingProof": proof}
            for index, (box_id, proof) in enumerate(zip(view.inputs, proofs, strict=True))
        ]

    def _data_inputs(self, view: TxView) -> list[JsonObject]:
        return [self._spent(box_id, index) for index, box_id in enumerate(view.data_inputs)]

    def _spent(self, box_id: str, index: int) -> JsonObject:
        ledger = self._chain.ledger
        row = ledger.boxes.get(box_id) or ledger.orphans.get(box_id)
        view = row.view if row else self._chain.pool.output(box_id)
        if view is None:  # the parent was replaced in the mempool and this transaction waits to be dropped
            return {"boxId": box_id, "index": index}
        return {
            "boxId": box_id,
            "value": view.value,
            "index": index,
            "outputBlockId": row.block_id if row else None,
            "outputTransactionId": view.tx_id,
            "outputIndex": view.index,
            "outputGlobalIndex": row.gix if row else None,
            "outputCreatedAt": view.creation_height,
            "outputSettledAt": row.height if row else None,
            **self._content(view),
        }

    def _output(self, view: BoxView) -> JsonObject:
        return {
            "boxId": view.box_id,
            "transactionId": view.tx_id,
            "value": view.value,
            "index": view.index,
            "creationHeight": view.creation_height,
            **self._content(view),
        }

    def _content(self, view: BoxView) -> JsonObject:
        constants = (f"{index}: {text}" for index, text in enumerate(tree_constants(view.tree)))
        return {
            "ergoTree": view.tree,
            "ergoTreeConstants": "\n".join(constants),
            "ergoTreeScript": "",
            "address": self._address(view.tree),
            "assets": [self._asset(index, *held) for index, held in enumerate(view.tokens)],
            "additionalRegisters": registers(view),
        }

    def _asset(self, index: int, token_id: str, amount: int) -> JsonObject:
        token = self._chain.ledger.tokens.get(token_id)
        return {
            "tokenId": token_id,
            "index": index,
            "amount": amount,
            "name": token and token.name,
            "decimals": token and token.decimals,
            "type": token and token.kind,
        }


def registers(view: BoxView) -> JsonObject:
    """The registers of a box, rendered."""
    return {
        name: _register(serialized) for name, serialized in json.loads(view.box.json())["additionalRegisters"].items()
    }


def _register(serialized: str) -> JsonObject:
    sigma_type, rendered = render(serialized)
    return {"serializedValue": serialized, "sigmaType": sigma_type, "renderedValue": rendered}
