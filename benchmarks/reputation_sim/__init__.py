"""A market with liars in it, and how well the score tells them from honest nodes."""
