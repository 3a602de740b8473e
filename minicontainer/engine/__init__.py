"""Containers as Docker knows them."""
