"""Every number of protocol version 2. The guards are compiled with these values; nothing else may spell one out.

Amounts are nanoERG, times are blocks, sizes are bytes.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 2

MIN_BOX: Final = 1_000_000  # smallest value of a box that carries money
MAX_MINER_FEE: Final = 2_000_000  # what a refund or a timeout may take from the client for the miner
RECEIPT_VALUE: Final = 2_000_000  # the node's reward for keeping the output until the receipt may be reclaimed
RATING_VALUE: Final = 4_000_000  # the reward of whoever settles the rating
BOND_RESERVE: Final = (
    2_000_000  # stays in the bond when all of the stake is slashed, so that a timeout can always be mined
)

# Of a payment and of its worth: half a million ERG. Above 9.2 * 10^14 `payment * 10,000` leaves a Long and freezes the release.
MAX_PAYMENT: Final = 5 * 10**14
# Of a box that we make for ourselves: what 360 nanoERG a byte ask of 270 bytes.
DUST: Final = 100_000

FEE_BPS: Final = 100  # treasury share of a payment, skipped where it is under MIN_BOX
SLASH_BPS: Final = 1_000  # slice of the payment that a missed deadline takes from the bond
WHOLE_BPS: Final = 10_000
BOND_MULTIPLIER: Final = 2  # the worth of open tasks may reach this multiple of the bond

MAX_OPEN: Final = 48
COOLDOWN: Final = 720
RECEIPT_RETENTION: Final = 21_600
SLACK: Final = 30  # how far a declared height may lie from the true one
WINDOW_MIN: Final = 30
WINDOW_MAX: Final = 90
SETTLE_GRACE: Final = 60  # after the reveal deadline, until anybody may settle
MAX_EXEC: Final = 21_600
# A market ends this long after its deployment. What relies on a bond token is over MAX_EXEC and a rating later, and only after
# 1,051,200 blocks can a box that nobody touched be taken as storage rent, bond token and all.
MARKET_LIFE: Final = 1_000_000

MAX_ENDPOINT: Final = 200
MAX_LOCATOR: Final = 512
MAX_ALLOWED: Final = 32
MAX_PROOF: Final = 160  # node key (33) and signature
MAX_CID: Final = 64
MAX_FAILURE_TYPE: Final = 8

TIMEOUT_POINTS: Final = -10
# Outcomes in a rating.
COMPLETED: Final = 1
FAILED: Final = 2
USELESS: Final = 1  # the client's mark that burns what was held back

KEY_PREFIX: Final = bytes.fromhex("0008cd")  # propBytes of a single public key begin so
BURN: Final = bytes.fromhex("0008d2")  # a tree that nobody can sign for

TICKETS: Final = 2**63  # tickets are numbers below this one

# Constants that a guard names, by the type that the compiler must give them.
GUARD_INTS: Final = (
    "COOLDOWN",
    "MAX_CID",
    "MAX_ENDPOINT",
    "MAX_FAILURE_TYPE",
    "MAX_OPEN",
    "MAX_PROOF",
    "RECEIPT_RETENTION",
    "SETTLE_GRACE",
    "SLACK",
    "WINDOW_MAX",
    "WINDOW_MIN",
)
GUARD_LONGS: Final = (
    "BOND_MULTIPLIER",
    "BOND_RESERVE",
    "FEE_BPS",
    "MAX_EXEC",
    "MAX_MINER_FEE",
    "MAX_PAYMENT",
    "MIN_BOX",
    "RATING_VALUE",
    "RECEIPT_VALUE",
    "SLASH_BPS",
)
GUARD_BIGINTS: Final = ("TICKETS",)
GUARD_BYTES: Final = ("BURN", "KEY_PREFIX")
