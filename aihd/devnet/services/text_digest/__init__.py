"""Example service: digests and counts of a text."""
