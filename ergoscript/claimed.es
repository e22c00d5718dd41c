{
  // ClaimedTask: the payment, promised to one node until its deadline.
  //
  // Promise   Up to the deadline only the node can move it, and only into a receipt with a rating, or back to the client with a
  //           failure receipt and a rating; no box that others can spend is touched, so nobody can push that out. After the deadline
  //           anybody can return it to the client together with a slice of the bond.
  // Tokens    (task id, 2), then (asset, payment) when the payment is in a token
  // Registers R4 Coll[Byte] service_hash   R5 Coll[Byte] input_commitment
  //           R6 Coll[Long] worth, payment, exec_deadline, claim_height, holdback_bps
  //           R7 SigmaProp client   R8 SigmaProp node   R9 Coll[Byte] input locator
  // Paths     release INPUTS (claimed, own...)       OUTPUTS (receipt, rating, treasury if due, ...)     node, HEIGHT <= deadline
  //           fail    INPUTS (claimed, own...)       OUTPUTS (failure receipt, rating, client, ...)      node, HEIGHT <= deadline
  //           timeout INPUTS (claimed, bond, any...) OUTPUTS (bond, client, ...)                         anybody, HEIGHT > deadline
  // In a timeout the bond's guard runs beside this one and answers for OUTPUTS(0).
  val taskId  = SELF.tokens(0)._1
  val assets  = SELF.tokens.slice(1, SELF.tokens.size)
  val terms   = SELF.R6[Coll[Long]].get
  val worth   = terms(0)
  val payment = terms(1)
  val client  = SELF.R7[SigmaProp].get
  val node    = SELF.R8[SigmaProp].get

  if (HEIGHT.toLong <= terms(2)) {
    val proof     = OUTPUTS(0)
    val rating    = OUTPUTS(1)
    val script    = blake2b256(proof.propositionBytes)
    val isRelease = script == RECEIPT_HASH
    val windows   = rating.R7[Coll[Int]].get
    val nodeKey   = node.propBytes.slice(3, 36)
    val outcome   = if (isRelease) 1L else 2L

    val fee   = worth * FEE_BPS / 10000L
    val due   = if (fee >= MIN_BOX) fee else 0L
    // The share that waits for the client's mark: of ERG only what is left when the release has paid for itself.
    val inErg = max(0L, payment - due - MAX_MINER_FEE) * terms(4) / 10000L
    val share = if (assets.size > 0) payment * terms(4) / 10000L else if (inErg < MIN_BOX) 0L else inErg
    val held  = if (isRelease) share else 0L
    val heldTokens = assets.slice(0, if (held > 0L) assets.size else 0).map({ (t: (Coll[Byte], Long)) => (t._1, held) })
    val heldErg    = if (assets.size > 0) 0L else held

    val opened =
      blake2b256(rating.propositionBytes) == RATING_HASH &&
      rating.value >= RATING_VALUE + heldErg &&
      rating.tokens == Coll((taskId, 1L)).append(heldTokens) &&
      rating.R4[SigmaProp].get.propBytes == client.propBytes &&
      rating.R5[SigmaProp].get.propBytes == node.propBytes &&
      rating.R6[Coll[Long]].get == Coll(worth, held, outcome) &&
      windows.size == 4 &&
      windows(2) == 0 &&
      windows(3) == 0 &&
      rating.R8[Coll[Byte]].get.size == 0 &&
      rating.R9[Coll[Byte]].get.size == 0

    val named = proof.R4[Coll[Byte]].get == taskId &&
      proof.tokens == Coll((taskId, 1L)) &&
      proof.creationInfo._1 >= HEIGHT - SLACK

    val ended = if (isRelease) {
      val signed = proof.R8[Coll[Byte]].get
      proof.value >= RECEIPT_VALUE &&
      proof.R5[Coll[Byte]].get == SELF.R5[Coll[Byte]].get &&
      proof.R6[Coll[Byte]].get.size == 32 &&
      proof.R7[Coll[Byte]].get.size == 32 &&
      signed.slice(0, 33) == nodeKey &&
      signed.size <= MAX_PROOF &&
      proof.R9[Coll[Byte]].get.size <= MAX_CID &&
      windows(0) >= HEIGHT + WINDOW_MIN &&
      windows(0) <= HEIGHT + WINDOW_MAX &&
      windows(1) >= windows(0) + WINDOW_MIN &&
      windows(1) <= windows(0) + WINDOW_MAX &&
      (due == 0L || {
        val treasury = OUTPUTS(2)
        treasury.propositionBytes == TREASURY && treasury.value >= due && treasury.R4[Coll[Byte]].get == SELF.id
      })
    } else {
      val declared = proof.R8[Long].get
      val kind     = proof.R6[Int].get
      val refund   = OUTPUTS(2)
      script == FAILURE_HASH &&
      proof.value >= MIN_BOX &&
      proof.R5[Coll[Byte]].get == nodeKey &&
      kind >= 1 &&
      kind <= MAX_FAILURE_TYPE &&
      proof.R7[Coll[Byte]].get.size == 32 &&
      declared <= HEIGHT.toLong &&
      declared >= (HEIGHT - SLACK).toLong &&
      proof.R9[Coll[Byte]].get.size <= MAX_PROOF &&
      windows(0) == 0 &&
      windows(1) >= HEIGHT &&
      windows(1) <= HEIGHT + SLACK &&
      refund.propositionBytes == client.propBytes &&
      refund.value >= SELF.value - MIN_BOX &&
      refund.tokens == assets &&
      refund.R4[Coll[Byte]].get == SELF.id
    }
    sigmaProp(INPUTS(0).id == SELF.id && opened && named && ended) && node
  } else {
    val bond   = INPUTS(1)
    val refund = OUTPUTS(1)
    val slash  = min(bond.R5[Coll[Long]].get(0), worth * SLASH_BPS / 10000L)
    sigmaProp(
      // Without this line a timeout could ride on the settlement of another task: no slash, and the id open for ever.
      INPUTS(0).id == SELF.id &&
      // Exactly one bond token marks a bond: the minter holds many. It must be the bond that holds this task open: any other would run
      // its claim path beside us and owe us nothing.
      bond.tokens(0) == (BOND_TOKEN, 1L) &&
      bond.R8[Coll[Coll[Byte]]].get.exists({ (id: Coll[Byte]) => id == taskId }) &&
      refund.propositionBytes == client.propBytes &&
      refund.value >= SELF.value - MAX_MINER_FEE + slash &&
      refund.tokens == assets &&
      refund.R4[Coll[Byte]].get == SELF.id &&
      OUTPUTS.forall({ (box: Box) => box.tokens.forall({ (t: (Coll[Byte], Long)) => t._1 != taskId }) })
    )
  }
}
