"""What payments may be in: ERG, or a token that the operator named. Pure.

An asset is a token id (32 bytes), or None for ERG; an amount is in its smallest units: nanoERG for ERG.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aihd.protocol.units import format_erg, format_units


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A token that payments may be in: its name, its decimals, and the most nanoERG that a whole unit may be declared to be worth."""

    name: str
    decimals: int
    max_worth: int

    def show(self, amount: int) -> str:
        """Returns an amount of smallest units as people write it, such as 0.1 SigUSD."""
        return f"{format_units(amount, self.decimals)} {self.name}"


Assets = Mapping[bytes, Asset]


def show_amount(assets: Assets, asset: bytes | None, amount: int) -> str:
    """Returns an amount as people write it; of a token without a name in smallest units."""
    if asset is None:
        return format_erg(amount)
    known = assets.get(asset)
    return known.show(amount) if known else f"{amount} of token {asset.hex()[:16]}…"


def name_of(assets: Assets, asset: bytes | None) -> str:
    """Returns the name of an asset: ERG, that of a table of [[assets]], or a token id in hex."""
    if asset is None:
        return "ERG"
    return assets[asset].name if asset in assets else asset.hex()
