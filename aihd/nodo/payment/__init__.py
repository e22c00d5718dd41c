"""What `aihd.nodo.payment_process` is made of: its settings, the paying side, the proof for the paid side, nodo's own messages."""
