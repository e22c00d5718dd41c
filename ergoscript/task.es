{
  // TaskEscrow: a client's locked payment for one run of a service.
  //
  // Promise   The money leaves only to a claim that carries every term of the task over, or back to the client;
  //           and nothing but a claim mints the token whose id is the task's.
  // Tokens    none, or (asset, payment) when the payment is in a token
  // Registers R4 Coll[Byte] service_hash   R5 Coll[Byte] input_commitment
  //           R6 Coll[Long] worth, payment, min_reputation, claim_deadline, exec_window, selection_window, difficulty, holdback_bps,
  //              version
  //           R7 SigmaProp client   R8 Coll[Byte] input locator   R9 Coll[Coll[Byte]] allowed node keys (empty = any)
  // Paths     claim   INPUTS (task, bond, wallet...)  OUTPUTS (bond, claimed, ...)   the bond's guard asks for the node's signature
  //           refund  INPUTS (task, any...)           OUTPUTS (client, ...)          anybody, after the claim deadline
  //           cancel  INPUTS (task, any...)           any, none with the task token  the client, any time
  // The bond's guard answers for what every claim must hold, whoever funded it: script, tokens, amounts and node key of OUTPUTS(1).
  val terms  = SELF.R6[Coll[Long]].get
  val client = SELF.R7[SigmaProp].get
  val isClaim = INPUTS.size > 1 && INPUTS(1).tokens.size > 0 && INPUTS(1).tokens(0) == (BOND_TOKEN, 1L)

  if (isClaim) {
    val bond     = INPUTS(1)
    val counters = bond.R5[Coll[Long]].get
    val nodeProp = bond.R4[SigmaProp].get.propBytes
    val score    = counters(2)
    val born     = counters(6)
    val created  = SELF.creationInfo._1
    val claimed  = OUTPUTS(1)
    val promise  = claimed.R6[Coll[Long]].get
    val allowed  = SELF.R9[Coll[Coll[Byte]]].get
    val nodeKey  = nodeProp.slice(3, 36)
    val weight   = 1L + max(0L, score)
    val odds     = weight.toBigInt * TICKETS

    // A ticket is bound to a header that did not exist when task and bond were made, so neither side can choose a winning key.
    val winning = CONTEXT.headers.exists({ (h: Header) =>
      val raw    = byteArrayToLong(blake2b256(h.id ++ SELF.id ++ nodeProp).slice(0, 8))
      val ticket = if (raw < 0L) -1L - raw else raw
      h.height > created && h.height.toLong > born && ticket.toBigInt * terms(6).toBigInt < odds
    })

    sigmaProp(
      INPUTS(0).id == SELF.id &&
      // The token alone is a bond's only as long as no bond token can have left its guard as storage rent: until the market ends.
      blake2b256(bond.propositionBytes) == BOND_HASH &&
      HEIGHT.toLong <= EXPIRY &&
      HEIGHT.toLong <= terms(3) &&
      score >= terms(2) &&
      (allowed.size == 0 || allowed.exists({ (key: Coll[Byte]) => key == nodeKey })) &&
      (winning || HEIGHT.toLong > created.toLong + terms(5)) &&
      claimed.value >= SELF.value &&
      claimed.R4[Coll[Byte]].get == SELF.R4[Coll[Byte]].get &&
      claimed.R5[Coll[Byte]].get == SELF.R5[Coll[Byte]].get &&
      // The node declares its own deadline: never more time than it is given, and no less than half, so that a claim that was built
      // long before it is mined does not bind a bond to a deadline that is over.
      promise(2) <= HEIGHT.toLong + terms(4) &&
      promise(2) > HEIGHT.toLong + terms(4) / 2L &&
      promise(3) <= HEIGHT.toLong &&
      promise(3) >= HEIGHT.toLong - SLACK &&
      promise(4) == terms(7) &&
      claimed.R7[SigmaProp].get.propBytes == client.propBytes &&
      claimed.R9[Coll[Byte]].get == SELF.R8[Coll[Byte]].get
    )
  } else {
    val refund = OUTPUTS(0)
    // Only a claim may mint the task's token: a client who could would forge our claims, receipts and ratings.
    val unminted = OUTPUTS.forall({ (output: Box) =>
      output.tokens.forall({ (token: (Coll[Byte], Long)) => token._1 != SELF.id })
    })
    sigmaProp(unminted) && (
      sigmaProp(
        HEIGHT.toLong > terms(3) &&
        INPUTS(0).id == SELF.id &&
        refund.propositionBytes == client.propBytes &&
        refund.value >= SELF.value - MAX_MINER_FEE &&
        refund.tokens == SELF.tokens &&
        refund.R4[Coll[Byte]].isDefined &&
        refund.R4[Coll[Byte]].get == SELF.id
      ) || client
    )
  }
}
