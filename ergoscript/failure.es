{
  // FailureReceipt: a node's admission that it could not run a task, published in the transaction that gave the client the money back.
  //
  // Promise   It stays until RECEIPT_RETENTION blocks have passed; then the node that made it may take its value back.
  // Tokens    (task id, 1)
  // Registers R4 Coll[Byte] task id   R5 Coll[Byte] node key (33)   R6 Int failure type   R7 Coll[Byte] evidence hash
  //           R8 Long height   R9 Coll[Byte] node_sig
  // Paths     reclaim INPUTS (any) OUTPUTS (any) node; the task token is burned
  val taskId = SELF.tokens(0)._1
  sigmaProp(
    HEIGHT > SELF.creationInfo._1 + RECEIPT_RETENTION &&
    OUTPUTS.forall({ (box: Box) => box.tokens.forall({ (t: (Coll[Byte], Long)) => t._1 != taskId }) })
  ) && proveDlog(decodePoint(SELF.R5[Coll[Byte]].get))
}
