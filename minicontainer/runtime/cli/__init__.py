"""The command line of minicontainer-oci."""
