{
  // Rating: both sides rate each other by commit and reveal; the result is folded into the node's bond, and with it goes the share of the
  // payment that was held back until then.
  //
  // Promise   Nobody sees the other's mark before giving his own, nobody marks twice, late, or for the other. The box ends only in the
  //           bond that ran the task, and what it holds goes to the node, or is burned when the client's mark is 1, and nowhere else.
  // Tokens    (task id, 1), then the held share when the payment is in a token
  // Registers R4 SigmaProp client   R5 SigmaProp node   R6 Coll[Long] worth, held, outcome (1 = released, 2 = failed)
  //           R7 Coll[Int] commit_deadline, reveal_deadline, client mark, node mark (0 = none)
  //           R8 Coll[Byte] client commitment (0 or 32 bytes)   R9 Coll[Byte] node commitment (0 or 32 bytes)
  // Paths     commit INPUTS (rating, wallet...)     OUTPUTS (rating, ...)              one side, HEIGHT <= commit_deadline
  //           reveal INPUTS (rating, wallet...)     OUTPUTS (rating, ...)              one side, salt (32 bytes) in context variable 0
  //           settle INPUTS (rating, bond, any...)  OUTPUTS (bond, held share if any)  the node when final or when the client stayed
  //                                                 silent; anybody SETTLE_GRACE after the reveal deadline
  // A failed task has a commit deadline of 0: nobody marks it, and its node may settle at once.
  // Exactly one bond token marks a bond: the minter holds many.
  val taskId = SELF.tokens(0)._1
  val held   = SELF.R6[Coll[Long]].get(1)
  val marks  = SELF.R7[Coll[Int]].get
  val node   = SELF.R5[SigmaProp].get
  val clientHash = SELF.R8[Coll[Byte]].get
  val nodeHash   = SELF.R9[Coll[Byte]].get
  val isSettle = INPUTS.size > 1 && INPUTS(1).tokens.size > 0 && INPUTS(1).tokens(0) == (BOND_TOKEN, 1L)

  if (isSettle) {
    val isPaid = held == 0L || {
      val payout = OUTPUTS(1)
      payout.propositionBytes == (if (marks(2) == 1) BURN else node.propBytes) &&
      payout.value >= (if (SELF.tokens.size > 1) MIN_BOX else held) &&
      payout.tokens == SELF.tokens.slice(1, SELF.tokens.size) &&
      payout.R4[Coll[Byte]].get == SELF.id
    }
    val folded = sigmaProp(
      INPUTS(0).id == SELF.id &&
      INPUTS(1).R8[Coll[Coll[Byte]]].get.exists({ (id: Coll[Byte]) => id == taskId }) &&
      OUTPUTS.forall({ (box: Box) => box.tokens.forall({ (t: (Coll[Byte], Long)) => t._1 != taskId }) }) &&
      isPaid
    )
    val isFinal = (marks(2) > 0 && marks(3) > 0) || HEIGHT > marks(1)
    val isSilent = HEIGHT > marks(0) && clientHash.size == 0
    folded && ((sigmaProp(isFinal || isSilent) && node) || sigmaProp(HEIGHT > marks(1) + SETTLE_GRACE))
  } else {
    val next      = OUTPUTS(0)
    val nextMarks = next.R7[Coll[Int]].get
    val nextClientHash = next.R8[Coll[Byte]].get
    val nextNodeHash   = next.R9[Coll[Byte]].get

    // Whose move it is follows from whose half changes. One expression then serves both sides: the compiler would hoist a context
    // variable that two branches read, and a commit has none.
    val byClient = nextNodeHash == nodeHash && nextMarks(3) == marks(3)
    val rater    = if (byClient) SELF.R4[SigmaProp].get else node
    val hash     = if (byClient) clientHash else nodeHash
    val nextHash = if (byClient) nextClientHash else nextNodeHash
    val mark     = if (byClient) marks(2) else marks(3)
    val nextMark = if (byClient) nextMarks(2) else nextMarks(3)
    val othersKept = byClient || (nextClientHash == clientHash && nextMarks(2) == marks(2))

    val moved = if (hash.size == 0) {
      HEIGHT <= marks(0) && nextHash.size == 32 && nextMark == mark
    } else {
      val salt = getVar[Coll[Byte]](0).get
      ((clientHash.size == 32 && nodeHash.size == 32) || HEIGHT > marks(0)) &&
      HEIGHT <= marks(1) &&
      nextHash == hash &&
      mark == 0 &&
      nextMark >= 1 &&
      nextMark <= 5 &&
      salt.size == 32 &&
      blake2b256(Coll(nextMark.toByte) ++ salt ++ taskId ++ rater.propBytes) == hash
    }

    sigmaProp(
      INPUTS(0).id == SELF.id &&
      next.propositionBytes == SELF.propositionBytes &&
      next.value >= SELF.value &&
      next.tokens == SELF.tokens &&
      next.R4[SigmaProp].get.propBytes == SELF.R4[SigmaProp].get.propBytes &&
      next.R5[SigmaProp].get.propBytes == node.propBytes &&
      next.R6[Coll[Long]].get == SELF.R6[Coll[Long]].get &&
      nextMarks.size == 4 &&
      nextMarks(0) == marks(0) &&
      nextMarks(1) == marks(1) &&
      othersKept &&
      moved
    ) && rater
  }
}
