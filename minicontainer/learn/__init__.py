"""The lessons: what a start did to the kernel, made visible."""
