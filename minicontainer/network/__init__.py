"""How packets get in and out of a container."""
