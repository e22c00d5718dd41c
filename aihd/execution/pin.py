"""Gives full receipts to an IPFS node, so that the CID in a receipt box resolves anywhere.

The node computes the CID itself, from the bytes that it got; only one that equals ours counts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

import aiohttp

from aihd.errors import DependencyError, TemporaryError, one_line
from aihd.protocol.hashes import cid_text, receipt_cid

BLOCK_PUT: Final = "/api/v0/block/put"
# A raw block under blake2b-256, which is how a receipt's CID is made (aihd/protocol/hashes.py).
PARAMETERS: Final = {"cid-codec": "raw", "mhtype": "blake2b-256", "mhlen": "32", "pin": "true"}


@dataclass(frozen=True, slots=True)
class Pinner:
    """`api` is the address of the node's RPC API, for example http://127.0.0.1:5001; `timeout` in seconds bounds a call."""

    session: aiohttp.ClientSession
    api: str
    timeout: float = 30.0

    async def pin(self, document: bytes) -> str:
        """Store and pin a receipt document; its CID as text.

        TemporaryError when the node does not answer or fails; DependencyError when it answers with another CID.
        """
        form = aiohttp.FormData()
        form.add_field("data", document, filename="receipt.json", content_type="application/octet-stream")
        url, timeout = f"{self.api.rstrip('/')}{BLOCK_PUT}", aiohttp.ClientTimeout(total=self.timeout)
        try:
            async with self.session.post(url, params=PARAMETERS, data=form, timeout=timeout) as response:
                text = (await response.content.read(10_000)).decode("utf-8", "replace")
                if response.status != 200:
                    raise TemporaryError(
                        f"IPFS at {self.api} answers {response.status}: {one_line(Exception(text), 200)}"
                    )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TemporaryError(f"IPFS at {self.api} does not answer: {one_line(error)}") from error
        expected = cid_text(receipt_cid(document))
        key = _key(text)
        if key != expected:
            raise DependencyError(f"IPFS at {self.api} stored the receipt as {key[:100]!r}, expected {expected}")
        return expected


def _key(text: str) -> str:
    """The CID in an answer; the text itself when there is none."""
    try:
        return str(json.loads(text)["Key"])
    except (ValueError, KeyError, TypeError):
        return text
