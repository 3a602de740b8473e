"""What runs in the child: the container's first process, from fork to exec."""
