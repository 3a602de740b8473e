"""How packets reach a container, and leave it."""
