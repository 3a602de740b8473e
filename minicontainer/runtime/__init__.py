"""The OCI runtime: a bundle in, an isolated process out."""
