"""The docker-like command line."""
