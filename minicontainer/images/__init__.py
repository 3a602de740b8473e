"""Images: what a container starts from. References, blobs, layers, registries; no containers."""
