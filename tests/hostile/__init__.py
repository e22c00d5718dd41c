"""A daemon at its work while strangers do their worst to it. Bounded in number and time, and on this machine only."""
