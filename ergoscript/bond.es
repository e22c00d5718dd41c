{
  // Bond: a node's stake, its counters and the ids of its open tasks.
  //
  // Promise   Counters move only with a task that was funded, and each exactly as its end says. The stake leaves by a missed
  //           deadline or, with nothing open and after a cool-down, to its owner.
  // Tokens    (BOND_TOKEN, 1): the birth certificate, given by the minter with all counters at zero
  // Registers R4 SigmaProp node   R5 Coll[Long] bond_amount, committed, score, completed, failed, timed_out, born
  //           R6 Int active tasks   R7 Int last activity   R8 Coll[Coll[Byte]] open task ids   R9 Coll[Byte] endpoint URL
  // Paths     manage   INPUTS (bond, wallet...)          OUTPUTS (bond, ...)              node
  //           withdraw INPUTS (bond, ...)                no bond token in any output      node, nothing open, cooled down
  //           claim    INPUTS (task, bond, wallet...)    OUTPUTS (bond, claimed, ...)     node
  //           timeout  INPUTS (claimed, bond, any...)    OUTPUTS (bond, client, ...)      anybody
  //           settle   INPUTS (rating, bond, any...)     OUTPUTS (bond, held share, ...)  as the rating's guard says
  // A release or a failure touches no bond: what it did is in the rating, and counted when that is settled.
  // One bond a transaction: a bond is INPUTS(0) or INPUTS(1), and as INPUTS(1) it reads a Coll[Long] from R6 of INPUTS(0), which a
  // bond (Int) and a minter (nothing) do not have. INPUTS(0) may be any box with a worth in R6, not only a task of ours: who claims
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
      val nextBorn = nextCounters(6)
      sigmaProp(
        kept &&
        next.value >= SELF.value &&
        nextCounters.size == 7 &&
        nextCounters(0) >= amount &&
        nextCounters(0) <= next.value - BOND_RESERVE &&
        nextCounters.slice(1, 6) == counters.slice(1, 6) &&
        // A raised stake draws tickets from now on: else a dust bond would draw them all the time and be filled when one has won.
        (if (nextCounters(0) == amount) nextBorn == counters(6)
         else nextBorn >= HEIGHT.toLong && nextBorn <= (HEIGHT + SLACK).toLong) &&
        next.R6[Int].get == active &&
        nextActivity == activity &&
        next.R8[Coll[Coll[Byte]]].get == openIds &&
        nextEndpoint.size <= MAX_ENDPOINT
      ) && node
    } else {
      val script    = blake2b256(first.propositionBytes)
      val isTimeout = script == CLAIMED_HASH
      val isSettle  = script == RATING_HASH
      val isClaim   = !(isTimeout || isSettle)
      // Of a task worth, payment, ...; of a claimed task worth, payment, exec_deadline, ...; of a rating worth, held, outcome.
      val terms     = first.R6[Coll[Long]].get
      val worth     = terms(0)
      val claimed   = OUTPUTS(1)

      val taskId = if (isClaim) first.id else first.tokens(0)._1
      val weight = if (worth < 10000000L) 1L else if (worth < 100000000L) 2L else if (worth < 1000000000L) 4L
                   else if (worth < 10000000000L) 8L else 16L
      val slash  = if (isTimeout) min(amount, worth * SLASH_BPS / 10000L) else 0L
      val points = if (isTimeout) -10L * weight
        else if (isSettle) {
          val marks      = first.R7[Coll[Int]].get
          val clientMark = marks(2)
          val said       = if (clientMark == 0) 0L else (clientMark - 3).toLong * weight
          val nodeBroke   = first.R9[Coll[Byte]].get.size > 0 && marks(3) == 0
          val clientBroke = first.R8[Coll[Byte]].get.size > 0 && clientMark == 0
          // On top of the client's mark, so that breaking a commitment never betters a bad one.
          if (nodeBroke && !clientBroke) said - weight else said
        } else 0L
      val committed = if (isClaim) worth else -worth
      val running   = if (isClaim) 1 else -1
      val completed = if (isSettle && terms(2) == 1L) 1L else 0L
      val failed    = if (isSettle && terms(2) == 2L) 1L else 0L
      val nextIds   = if (isClaim) openIds.append(Coll(taskId)) else openIds.filter({ (id: Coll[Byte]) => id != taskId })

      // Whatever stands at INPUTS(0) must be carried over whole, since a box that somebody made for himself escapes the task's guard.
      val mayMove = if (isClaim) {
        val payment = terms(1)
        val promise = claimed.R6[Coll[Long]].get
        val fee     = worth * FEE_BPS / 10000L
        // A payment in a token leaves the treasury's share and the fee of the release to ERG that the client adds.
        val locked  = if (first.tokens.size == 0) payment else MAX_MINER_FEE + (if (fee >= MIN_BOX) fee else 0L)
        openIds.size < MAX_OPEN &&
        worth > 0L &&
        // Far above any price: up to here no product of a payment leaves a Long, which would freeze a release or a timeout.
        worth <= MAX_PAYMENT &&
        payment <= MAX_PAYMENT &&
        first.tokens.size <= 1 &&
        // A payment of nothing or less is neither a number of units nor equal to a worth.
        first.tokens.forall({ (t: (Coll[Byte], Long)) => t._2 == payment }) &&
        (first.tokens.size == 1 || worth == payment) &&
        counters(1) + worth <= amount * BOND_MULTIPLIER &&
        blake2b256(claimed.propositionBytes) == CLAIMED_HASH &&
        claimed.value >= RECEIPT_VALUE + RATING_VALUE + locked &&
        claimed.tokens == Coll((taskId, 2L)).append(first.tokens) &&
        OUTPUTS.filter({ (box: Box) => box.tokens.exists({ (t: (Coll[Byte], Long)) => t._1 == taskId }) }).size == 1 &&
        promise.size == 5 &&
        promise(0) == worth &&
        promise(1) == payment &&
        promise(2) <= HEIGHT.toLong + MAX_EXEC &&
        promise(4) >= 0L &&
        promise(4) <= 10000L &&
        // A single public key, 36 bytes by its form: anything longer would fit this box and not the rating that has to carry it.
        claimed.R7[SigmaProp].get.propBytes.slice(0, 3) == KEY_PREFIX &&
        claimed.R8[SigmaProp].get.propBytes == node.propBytes
      } else {
        openIds.exists({ (id: Coll[Byte]) => id == taskId }) && (isSettle || HEIGHT.toLong > terms(2))
      }

      val moved = sigmaProp(
        INPUTS(1).id == SELF.id &&
        kept &&
        mayMove &&
        next.value == SELF.value - slash &&
        nextCounters == Coll(
          amount - slash,
          counters(1) + committed,
          counters(2) + points,
          counters(3) + completed,
          counters(4) + failed,
          counters(5) + (if (isTimeout) 1L else 0L),
          counters(6)
        ) &&
        next.R6[Int].get == active + running &&
        // The node declares when it was last active: later than now is its own loss, earlier would shorten the cool-down.
        (if (isClaim) nextActivity >= HEIGHT && nextActivity <= HEIGHT + SLACK else nextActivity == activity) &&
        next.R8[Coll[Coll[Byte]]].get == nextIds &&
        nextEndpoint == SELF.R9[Coll[Byte]].get
      )
      if (isClaim) moved && node else moved
    }
  }
}
