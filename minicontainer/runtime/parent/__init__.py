"""What runs in the parent: the process that makes a container from outside."""
