"""Linux, one mechanism in each file; nothing here knows about containers."""
