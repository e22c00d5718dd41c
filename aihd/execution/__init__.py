"""Bringing input to a running service and its output to disk, as a stream."""
