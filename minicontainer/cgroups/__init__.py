"""Limits and counters: one interface, a driver for each cgroup version."""
