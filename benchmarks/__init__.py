"""Claims about speed and memory, each as a ratio against a stated floor in the same run: `make bench`."""
