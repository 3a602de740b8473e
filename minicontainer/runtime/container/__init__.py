"""A container that exists: its state on disk, and what can be done to it."""
