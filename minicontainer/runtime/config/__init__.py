"""What config.json says: its fields, their checks and defaults, and what this runtime offers."""
