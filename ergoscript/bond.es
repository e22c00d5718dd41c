{
  // Bond: a node's stake, its counters and the ids of its open tasks.
  //
  // Promise   Counters move only with a task that was funded, and each exactly as its end says. The stake leaves by a missed
  //           deadline or, with nothing open and after a cool-down, to its owner.
  // Tokens    (BOND_TOKEN, 1): the birth certificate, given by the minter with all counters at zero
  // Registers R4 SigmaProp node   R5 Coll[Long] bond_amount, committed, score, completed, failed, timed_out, born
  //           R6 Int active tasks   R7 Int last activity   R8 Coll[Coll[Byte]] open task ids   R9 Coll[Byte] endpoint URL
  // Paths     manage   INPUTS (bond, wallet...)          OUTPUTS (bond, ...)                     node
  //           withdraw INPUTS (bond, ...)                no bond token in any output             node, nothing open, cooled down
  //           claim    INPUTS (task, bond, wallet...)    OUTPUTS (bond, claimed, ...)            node
  //           release  INPUTS (claimed, bond, wallet...) OUTPUTS (bond, receipt, ...)            node
  //           fail     INPUTS (claimed, bond, wallet...) OUTPUTS (bond, failure receipt, ...)    node
  //           timeout  INPUTS (claimed, bond, any...)    OUTPUTS (bond, client, ...)             anybody
  //           settle   INPUTS (rating, bond, any...)     OUTPUTS (bond, ...)                     anybody
  // One bond a transaction: a bond is INPUTS(0) or INPUTS(1), and as INPUTS(1) it reads a Coll[Long] from R6 of INPUTS(0), which a
  // bond (Int) and a minter (nothing) do not have. INPUTS(0) may be any box with a payment in R6, not only a task of ours: who claims
  // from himself pays the same fees as for a real task.
  val node     = SELF.R4[SigmaProp].get
  val counters = SELF.R5[Coll[Long]].get
  val active   = SELF.R6[Int].get
  val activity = SELF.R7[Int].get
  val openIds  = SELF.R8[Coll[Coll[Byte]]].get
  val amount   = counters(0)
  val next     = OUTPUTS(0)
  val first    = INPUTS(0)

  if (first.id == SELF.id && next.tokens.size == 0) {
    sigmaProp(
      openIds.size == 0 &&
      active == 0 &&
      HEIGHT > activity + COOLDOWN &&
      OUTPUTS.forall({ (box: Box) => box.tokens.forall({ (t: (Coll[Byte], Long)) => t._1 != BOND_TOKEN }) })
    ) && node
  } else {
    val nextCounters = next.R5[Coll[Long]].get
    val nextActivity = next.R7[Int].get
    val nextEndpoint = next.R9[Coll[Byte]].get
    val kept = next.propositionBytes == SELF.propositionBytes &&
      next.tokens == SELF.tokens &&
      next.R4[SigmaProp].get.propBytes == node.propBytes

    if (first.id == SELF.id) {
      sigmaProp(
        kept &&
        next.value >= SELF.value &&
        nextCounters(0) >= amount &&
        nextCounters(0) <= next.value - BOND_RESERVE &&
        nextCounters.slice(1, nextCounters.size) == counters.slice(1, 7) &&
        next.R6[Int].get == active &&
        nextActivity == activity &&
        next.R8[Coll[Coll[Byte]]].get == openIds &&
        nextEndpoint.size <= MAX_ENDPOINT
      ) && node
    } else {
      val script    = blake2b256(first.propositionBytes)
      val isClaimed = script == CLAIMED_HASH
      val isRating  = script == RATING_HASH
      val isClaim   = !(isClaimed || isRating)
      val terms     = first.R6[Coll[Long]].get
      val payment   = terms(0)
      val second    = OUTPUTS(1)
      val isTimeout = isClaimed && HEIGHT.toLong > terms(1)
      val isRelease = isClaimed && !isTimeout && blake2b256(second.propositionBytes) == RECEIPT_HASH
      val isFail    = isClaimed && !isTimeout && !isRelease
      val byNode    = isClaim || isRelease || isFail

      val taskId = if (isClaim) first.id else first.tokens(0)._1
      val weight = if (payment < 10000000L) 1L else if (payment < 100000000L) 2L else if (payment < 1000000000L) 4L
                   else if (payment < 10000000000L) 8L else 16L
      val slash  = if (isTimeout) min(amount, payment * SLASH_BPS / 10000L) else 0L
      val points = if (isTimeout) -10L * weight
        else if (isRating) {
          val marks      = first.R7[Coll[Int]].get
          val clientMark = marks(2)
          val said       = if (clientMark == 0) 0L else (clientMark - 3).toLong * weight
          val nodeBroke   = first.R9[Coll[Byte]].get.size > 0 && marks(3) == 0
          val clientBroke = first.R8[Coll[Byte]].get.size > 0 && clientMark == 0
          // On top of the client's mark, so that breaking a commitment never betters a bad one.
          if (nodeBroke && !clientBroke) said - weight else said
        } else 0L
      val committed = if (isClaim) payment else if (isRating) 0L else -payment
      val running   = if (isClaim) 1 else if (isRating) 0 else -1
      val nextIds   = if (isClaim) openIds.append(Coll(taskId))
        else if (isRelease) openIds
        else openIds.filter({ (id: Coll[Byte]) => id != taskId })

      val mayStart = if (isClaim) {
        openIds.size < MAX_OPEN &&
        payment > 0L &&
        // Far above any price: up to here no product of a payment leaves a Long, which would freeze a timeout.
        payment <= MAX_PAYMENT &&
        counters(1) + payment <= amount * BOND_MULTIPLIER &&
        blake2b256(second.propositionBytes) == CLAIMED_HASH &&
        second.value >= payment + RECEIPT_VALUE + RATING_VALUE &&
        second.tokens == Coll((taskId, 2L)) &&
        OUTPUTS.filter({ (box: Box) => box.tokens.exists({ (t: (Coll[Byte], Long)) => t._1 == taskId }) }).size == 1 &&
        second.R6[Coll[Long]].get(0) == payment &&
        second.R8[SigmaProp].get.propBytes == node.propBytes
      } else openIds.exists({ (id: Coll[Byte]) => id == taskId })

      val moved = sigmaProp(
        INPUTS(1).id == SELF.id &&
        kept &&
        mayStart &&
        next.value == SELF.value - slash &&
        nextCounters == Coll(
          amount - slash,
          counters(1) + committed,
          counters(2) + points,
          counters(3) + (if (isRelease) 1L else 0L),
          counters(4) + (if (isFail) 1L else 0L),
          counters(5) + (if (isTimeout) 1L else 0L),
          counters(6)
        ) &&
        next.R6[Int].get == active + running &&
        // The node declares when it was last active: later than now is its own loss, earlier would shorten the cool-down.
        (if (byNode) nextActivity >= HEIGHT && nextActivity <= HEIGHT + SLACK else nextActivity == activity) &&
        next.R8[Coll[Coll[Byte]]].get == nextIds &&
        nextEndpoint == SELF.R9[Coll[Byte]].get
      )
      if (byNode) moved && node else moved
    }
  }
}
