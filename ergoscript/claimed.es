{
  // ClaimedTask: the payment, promised to one node until its deadline.
  //
  // Promise   Up to the deadline only the node can move it, and only into a receipt with a rating, or back to the client with a
  //           failure receipt. After the deadline anybody can return it to the client together with a slice of the bond.
  // Tokens    (task id, 2)
  // Registers R4 Coll[Byte] service_hash   R5 Coll[Byte] input_commitment   R6 Coll[Long] payment, exec_deadline, claim_height
  //           R7 SigmaProp client   R8 SigmaProp node   R9 Coll[Byte] input locator
  // Paths     release INPUTS (claimed, bond, wallet...) OUTPUTS (bond, receipt, rating, treasury if due, ...)  node, HEIGHT <= deadline
  //           fail    INPUTS (claimed, bond, wallet...) OUTPUTS (bond, failure receipt, client, ...)           node, HEIGHT <= deadline
  //           timeout INPUTS (claimed, bond, any...)    OUTPUTS (bond, client, ...)                            anybody, HEIGHT > deadline
  // The bond's guard runs beside this one and answers for OUTPUTS(0).
  val taskId  = SELF.tokens(0)._1
  val terms   = SELF.R6[Coll[Long]].get
  val payment = terms(0)
  val node    = SELF.R8[SigmaProp].get
  val bond    = INPUTS(1)
  val second  = OUTPUTS(1)
  val client  = SELF.R7[SigmaProp].get

  // Exactly one bond token marks a bond: the minter holds many.
  // The bond must be the one that holds this task open: any other would run its claim path beside us and owe us nothing.
  val ourBond = INPUTS(0).id == SELF.id &&
    bond.tokens(0) == (BOND_TOKEN, 1L) &&
    bond.R8[Coll[Coll[Byte]]].get.exists({ (id: Coll[Byte]) => id == taskId })

  if (HEIGHT.toLong <= terms(1)) {
    val nodeKey = node.propBytes.slice(3, 36)
    val named   = second.R4[Coll[Byte]].get == taskId && second.creationInfo._1 >= HEIGHT - SLACK
    val script  = blake2b256(second.propositionBytes)

    val settled = if (script == RECEIPT_HASH) {
      val rating  = OUTPUTS(2)
      val windows = rating.R7[Coll[Int]].get
      val proof   = second.R8[Coll[Byte]].get
      val fee     = payment * FEE_BPS / 10000L
      second.value >= RECEIPT_VALUE &&
      second.tokens == Coll((taskId, 1L)) &&
      second.R5[Coll[Byte]].get == SELF.R5[Coll[Byte]].get &&
      second.R6[Coll[Byte]].get.size == 32 &&
      second.R7[Coll[Byte]].get.size == 32 &&
      proof.slice(0, 33) == nodeKey &&
      proof.size <= MAX_PROOF &&
      second.R9[Coll[Byte]].get.size <= MAX_CID &&
      blake2b256(rating.propositionBytes) == RATING_HASH &&
      rating.value >= RATING_VALUE &&
      rating.tokens == Coll((taskId, 1L)) &&
      rating.R4[SigmaProp].get.propBytes == client.propBytes &&
      rating.R5[SigmaProp].get.propBytes == node.propBytes &&
      rating.R6[Coll[Long]].get == Coll(payment) &&
      windows.size == 4 &&
      windows(0) >= HEIGHT + WINDOW_MIN &&
      windows(0) <= HEIGHT + WINDOW_MAX &&
      windows(1) >= windows(0) + WINDOW_MIN &&
      windows(1) <= windows(0) + WINDOW_MAX &&
      windows(2) == 0 &&
      windows(3) == 0 &&
      rating.R8[Coll[Byte]].get.size == 0 &&
      rating.R9[Coll[Byte]].get.size == 0 &&
      (fee < MIN_BOX || (OUTPUTS(3).propositionBytes == TREASURY && OUTPUTS(3).value >= fee))
    } else {
      val declared = second.R8[Long].get
      val kind     = second.R6[Int].get
      script == FAILURE_HASH &&
      second.value >= MIN_BOX &&
      // Bounded, since the node gets this value back one day: it must not be a way to keep the payment.
      second.value <= RECEIPT_VALUE &&
      second.tokens == Coll((taskId, 2L)) &&
      second.R5[Coll[Byte]].get == nodeKey &&
      kind >= 1 &&
      kind <= MAX_FAILURE_TYPE &&
      second.R7[Coll[Byte]].get.size == 32 &&
      declared <= HEIGHT.toLong &&
      declared >= (HEIGHT - SLACK).toLong &&
      second.R9[Coll[Byte]].get.size <= MAX_PROOF &&
      OUTPUTS(2).propositionBytes == client.propBytes &&
      OUTPUTS(2).value >= SELF.value - second.value
    }
    sigmaProp(ourBond && named && settled) && node
  } else {
    val slash = min(bond.R5[Coll[Long]].get(0), payment * SLASH_BPS / 10000L)
    sigmaProp(
      ourBond &&
      second.propositionBytes == client.propBytes &&
      second.value >= SELF.value - MAX_MINER_FEE + slash &&
      OUTPUTS.forall({ (box: Box) => box.tokens.forall({ (t: (Coll[Byte], Long)) => t._1 != taskId }) })
    )
  }
}
