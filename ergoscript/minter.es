{
  // Minter: holds the protocol's bond tokens and gives one to each new bond.
  //
  // Promise   A bond token leaves only into a bond whose counters are zero, so the counters of a box that holds one can be believed.
  // Tokens    (BOND_TOKEN, supply)
  // Paths     bond INPUTS (minter, wallet...) OUTPUTS (minter, bond, ...) anybody who funds it, until the market ends
  val next     = OUTPUTS(0)
  val bond     = OUTPUTS(1)
  val counters = bond.R5[Coll[Long]].get
  val born     = counters(6)
  val activity = bond.R7[Int].get
  val key      = bond.R4[SigmaProp].get.propBytes
  sigmaProp(
    // A box that nobody touches for four years can be taken as storage rent, tokens and all: long before that nothing relies on a bond.
    HEIGHT.toLong <= EXPIRY &&
    next.propositionBytes == SELF.propositionBytes &&
    next.value >= SELF.value &&
    // No registers (they are dense, so no R4 means none): nothing to pad the box with, nothing to pose with.
    next.R4[Int].isDefined == false &&
    next.tokens == Coll((BOND_TOKEN, SELF.tokens(0)._2 - 1L)) &&
    blake2b256(bond.propositionBytes) == BOND_HASH &&
    bond.tokens == Coll((BOND_TOKEN, 1L)) &&
    // A single public key by its form, and so of 36 bytes, and not the point at infinity, which begins with 0: else nobody could sign for
    // the bond, or anybody, or the key could fill the box.
    key.slice(0, 3) == KEY_PREFIX &&
    key(3) > 0.toByte &&
    counters == Coll(counters(0), 0L, 0L, 0L, 0L, 0L, born) &&
    counters(0) > 0L &&
    counters(0) <= bond.value - BOND_RESERVE &&
    born >= HEIGHT.toLong &&
    born <= (HEIGHT + SLACK).toLong &&
    bond.R6[Int].get == 0 &&
    activity >= HEIGHT &&
    activity <= HEIGHT + SLACK &&
    bond.R8[Coll[Coll[Byte]]].get.size == 0 &&
    bond.R9[Coll[Byte]].get.size <= MAX_ENDPOINT
  )
}
