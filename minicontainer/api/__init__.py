"""The Docker Engine API: HTTP requests in, calls of the engine out."""
