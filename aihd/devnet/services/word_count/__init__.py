"""Example service: the most frequent words of a text."""
