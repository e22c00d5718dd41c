{
  // Receipt: the proof that a task was run, published in the transaction that released its payment.
  //
  // Promise   It stays until RECEIPT_RETENTION blocks have passed; then the node that made it may take its value back, which is its
  //           reward for having kept the output available.
  // Tokens    (task id, 1)
  // Registers R4 Coll[Byte] task id   R5 Coll[Byte] input_commitment   R6 Coll[Byte] output_hash   R7 Coll[Byte] exec_params_hash
  //           R8 Coll[Byte] node key (33) ++ node_sig   R9 Coll[Byte] receipt_cid
  // Paths     reclaim INPUTS (any) OUTPUTS (any) node; the task token is burned
  val taskId = SELF.tokens(0)._1
  sigmaProp(
    HEIGHT > SELF.creationInfo._1 + RECEIPT_RETENTION &&
    OUTPUTS.forall({ (box: Box) => box.tokens.forall({ (t: (Coll[Byte], Long)) => t._1 != taskId }) })
  ) && proveDlog(decodePoint(SELF.R8[Coll[Byte]].get.slice(0, 33)))
}
