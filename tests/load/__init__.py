"""A daemon with its hands full is killed and started again: how soon it is ready, and that nothing is lost."""
