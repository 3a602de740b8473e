"""How one mount of the specification is made, in the container's mount namespace."""
