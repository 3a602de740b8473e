"""Linux, one mechanism a file, and nothing of containers."""
