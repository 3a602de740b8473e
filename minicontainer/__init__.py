"""minicontainer: containers built from the kernel's own primitives."""
