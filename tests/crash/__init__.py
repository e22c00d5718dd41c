"""Kill the daemon at every journal boundary and around every call to the outside, start it again, and compare the ends."""
