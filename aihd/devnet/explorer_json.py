"""The JSON shapes of the Explorer: boxes, inputs, transactions, blocks.

`ergoTreeScript` is always empty: there is no decompiler here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from aihd.devnet.blocks import DIFFICULTY, Block, JsonObject
from aihd.devnet.chain import Chain
from aihd.devnet.history import History
from aihd.devnet.ledger import ChainBox, ChainTx, Ledger, Token
from aihd.devnet.mempool import PoolTx
from aihd.devnet.render import render, tree_constants
from aihd.devnet.views import BoxView, TxView
from aihd.devnet.wire import spending_proofs
from aihd.protocol.trees import GENERATOR, address_of, p2pk_tree

EPOCH = 1024  # blocks, as the Explorer counts epochs

_HEADER_KEYS = (
    *("id", "parentId", "version", "timestamp", "height", "nBits", "votes"),
    *("stateRoot", "adProofsRoot", "transactionsRoot", "extensionHash"),
)


_OLD_INPUT_KEYS = ("value", "index", "spendingProof", "outputTransactionId", "outputIndex", "address")
_OLD_OUTPUT_KEYS = ("value", "index", "creationHeight", "ergoTree", "address", "assets", "additionalRegisters")
_SCRIPT_KEYS = ("ergoTreeConstants", "ergoTreeScript")
_WAITING_INPUT_LACKS = (*_SCRIPT_KEYS, "outputGlobalIndex", "outputCreatedAt", "outputSettledAt")


class ExplorerJson:
    """Writes what a chain holds as the Explorer would; `seen` is what it has indexed by now."""

    def __init__(self, chain: Chain, seen: Callable[[], History]) -> None:
        self._chain = chain
        self._seen = seen
        self._address = lru_cache(8192)(lambda tree: address_of(bytes.fromhex(tree), chain.network))

    @property
    def _ledger(self) -> Ledger:
        return self._seen().ledger

    def output(self, box: ChainBox, main_chain: bool = True) -> JsonObject:
        """OutputInfo of a box in a block."""
        return {
            **self._output(box.view),
            "blockId": box.block_id,
            "globalIndex": box.gix,
            "settlementHeight": box.height,
            "spentTransactionId": self._ledger.spender(box.view.box_id) if main_chain else None,
            "mainChain": main_chain,
        }

    def confirmed_output(self, box: ChainBox) -> JsonObject:
        """MOutputInfo of a box in a block."""
        return without(self.output(box), _SCRIPT_KEYS)

    def pool_output(self, view: BoxView) -> JsonObject:
        """MOutputInfo of a box that only the mempool has."""
        nulls = dict.fromkeys(("blockId", "globalIndex", "settlementHeight", "spentTransactionId"))
        return {**without(self._output(view), _SCRIPT_KEYS), **nulls, "mainChain": False}

    def transaction(self, row: ChainTx, only: str | None = None) -> JsonObject:
        """TransactionInfo; `only`: a tree (hex) whose boxes alone are shown, as for `concise`."""
        view = row.view
        inputs, outputs = self._inputs(view), [self._created(box) for box in view.outputs]
        return {
            "id": view.tx_id,
            "blockId": row.block_id,
            "inclusionHeight": row.height,
            "timestamp": row.timestamp,
            "index": row.index,
            "globalIndex": row.gix,
            "numConfirmations": self._seen().height - row.height + 1,
            "inputs": [i for i in inputs if only in (None, i["ergoTree"])],
            "dataInputs": self._data_inputs(view),
            "outputs": [o for o in outputs if only in (None, o["ergoTree"])],
            "size": view.size,
        }

    def pool_transaction(self, entry: PoolTx) -> JsonObject:
        """UTransactionInfo."""
        view = entry.view
        return {
            "id": view.tx_id,
            "creationTimestamp": entry.arrived,
            "inputs": [without(shape, _WAITING_INPUT_LACKS) for shape in self._inputs(view)],
            "dataInputs": self._data_inputs(view),
            "outputs": [
                {
                    **without(self._output(box), _SCRIPT_KEYS),
                    "spentTransactionId": self._chain.pool.spender(box.box_id),
                }
                for box in view.outputs
            ],
            "size": view.size,
        }

    def pool_transaction_v0(self, entry: PoolTx) -> JsonObject:
        """UTransactionInfo of the old API."""
        whole = self.pool_transaction(entry)
        proofs = dict(zip(entry.view.inputs, spending_proofs(entry.view), strict=True))
        inputs = [_old_input(i, whole["id"]) for i in whole["inputs"]]
        for shape in inputs:
            shape["spendingProof"] = proofs[shape["id"]]
        return {
            "id": whole["id"],
            "creationTimestamp": whole["creationTimestamp"],
            "inputs": inputs,
            "dataInputs": [without(_old_input(i, whole["id"]), ("spendingProof",)) for i in whole["dataInputs"]],
            "outputs": [
                without(_old_output(o, whole["id"]), ("spentTransactionId", "mainChain")) for o in whole["outputs"]
            ],
            "size": whole["size"],
        }

    def pool_summary_v0(self, entry: PoolTx) -> JsonObject:
        """UTransactionSummary of the old API."""
        view = entry.view
        moved = sum(box.value for box in view.outputs)
        summary = {"totalCoinsTransferred": moved, "totalFee": view.fee, "feePerByte": view.fee // view.size}
        return {**self.pool_transaction_v0(entry), "ioSummary": summary}

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
            "difficulty": str(DIFFICULTY),
            "minerReward": 0,
        }

    def block(self, block: Block) -> JsonObject:
        """BlockSummary: the whole block and its neighbours."""
        seen = self._seen()
        following = seen.blocks[block.height] if seen.holds(block) and block.height < seen.height else None
        return {
            "block": {
                **self.block_summary(block),
                "extension": {"headerId": block.block_id, "digest": block.header["extensionHash"], "fields": {}},
                "adProofs": None,
            },
            "references": {
                "previousId": block.header["parentId"],
                "nextId": following.block_id if following else None,
            },
        }

    def block_summary(self, block: Block) -> JsonObject:
        """BlockSummaryV1: header and transactions in the form of the old API."""
        votes = bytes.fromhex(block.header["votes"])
        header = {
            **self.header(block),
            "epoch": block.height // EPOCH,
            "difficulty": str(DIFFICULTY),
            "size": block.header["size"],
            "votes": {f"_{place}": vote for place, vote in enumerate(votes, 1)},
        }
        return {"header": header, "blockTransactions": [self._old_transaction(row) for row in self._rows(block)]}

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

    def asset(self, box: ChainBox, index: int) -> JsonObject:
        """AssetInfo of a token at its place in a box."""
        held = self._asset(index, *box.view.tokens[index])
        return {"headerId": box.block_id, "boxId": box.view.box_id, **held}

    def balance(self, boxes: Iterable[BoxView]) -> JsonObject:
        """Balance over boxes."""
        nano_ergs, tokens = 0, dict[str, int]()
        for box in boxes:
            nano_ergs += box.value
            for token_id, amount in box.tokens:
                tokens[token_id] = tokens.get(token_id, 0) + amount
        return {"nanoErgs": nano_ergs, "tokens": [self._holding(*held) for held in tokens.items()]}

    def _holding(self, token_id: str, amount: int) -> JsonObject:
        token = self._ledger.tokens.get(token_id)
        return {
            "tokenId": token_id,
            "amount": amount,
            "decimals": (token and token.decimals) or 0,
            "name": token and token.name,
            "tokenType": token and token.kind,
        }

    def _rows(self, block: Block) -> list[ChainTx]:
        known = self._ledger.transactions
        if self._seen().holds(block):
            return [known[view.tx_id] for view in block.transactions]
        time = block.header["timestamp"]
        return [ChainTx(v, 0, i, block.height, block.block_id, time) for i, v in enumerate(block.transactions)]

    def _old_transaction(self, row: ChainTx) -> JsonObject:
        whole = self.transaction(row)
        return {
            "id": whole["id"],
            "headerId": row.block_id,
            "inclusionHeight": row.height,
            "timestamp": row.timestamp,
            "index": row.index,
            "confirmationsCount": whole["numConfirmations"],
            "inputs": [_old_input(i, row.view.tx_id) for i in whole["inputs"]],
            "dataInputs": [without(_old_input(i, row.view.tx_id), ("spendingProof",)) for i in whole["dataInputs"]],
            "outputs": [_old_output(o, row.view.tx_id) for o in whole["outputs"]],
        }

    def _created(self, view: BoxView) -> JsonObject:
        row = self._ledger.boxes.get(view.box_id)
        return self.output(row) if row else self.output(self._beside(view.box_id), main_chain=False)

    def _beside(self, box_id: str) -> ChainBox:
        """A box that is not on the main chain as the index has seen it: orphaned, or newer than that."""
        newest = self._chain.ledger
        return self._ledger.orphans.get(box_id) or newest.orphans.get(box_id) or newest.boxes[box_id]

    def _inputs(self, view: TxView) -> list[JsonObject]:
        proofs = (proof["proofBytes"] or None for proof in spending_proofs(view))
        return [
            {**self._spent(box_id, index), "spendingProof": proof}
            for index, (box_id, proof) in enumerate(zip(view.inputs, proofs, strict=True))
        ]

    def _data_inputs(self, view: TxView) -> list[JsonObject]:
        shapes = (self._spent(box_id, index) for index, box_id in enumerate(view.data_inputs))
        return [without(shape, _WAITING_INPUT_LACKS) for shape in shapes]

    def _spent(self, box_id: str, index: int) -> JsonObject:
        ledger = self._ledger
        row = ledger.boxes.get(box_id) or ledger.orphans.get(box_id)
        view = row.view if row else self._chain.pool.output(box_id)
        if view is None:  # the parent was replaced in the mempool, or the index lags behind
            return {"boxId": box_id, "index": index, "ergoTree": ""}
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
        return {
            "ergoTree": view.tree,
            "ergoTreeConstants": constants_text(view.tree),
            "ergoTreeScript": "",
            "address": self._address(view.tree),
            "assets": [self._asset(index, *held) for index, held in enumerate(view.tokens)],
            "additionalRegisters": registers(view),
        }

    def _asset(self, index: int, token_id: str, amount: int) -> JsonObject:
        token = self._ledger.tokens.get(token_id)
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
    return {f"R{number}": _register(serialized) for number, serialized in enumerate(view.registers, 4)}


def constants_text(tree: str) -> str:
    """The constants of a tree (hex), a numbered line each."""
    return "\n".join(f"{index}: {text}" for index, text in enumerate(tree_constants(tree)))


def without(shape: Mapping[str, Any], keys: Iterable[str]) -> JsonObject:
    """The object less these keys."""
    dropped = set(keys)
    return {key: value for key, value in shape.items() if key not in dropped}


def _register(serialized: str) -> JsonObject:
    sigma_type, rendered = render(serialized)
    return {"serializedValue": serialized, "sigmaType": sigma_type, "renderedValue": rendered}


def _old_input(shape: JsonObject, tx_id: str) -> JsonObject:
    return {"id": shape["boxId"], "transactionId": tx_id, **{key: shape.get(key) for key in _OLD_INPUT_KEYS}}


def _old_output(shape: JsonObject, tx_id: str) -> JsonObject:
    kept = {key: shape[key] for key in _OLD_OUTPUT_KEYS}
    later = {key: shape.get(key) for key in ("spentTransactionId", "mainChain")}
    return {"id": shape["boxId"], "txId": tx_id, **kept, **later}
