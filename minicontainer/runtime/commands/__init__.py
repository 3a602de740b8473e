"""What `minicontainer-oci` can do, command by command; `main` finds them by `command_line`."""
