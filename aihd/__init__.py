"""aihd: a sidecar that joins a Celaut node (nodo) to the AIH task market on Ergo."""
