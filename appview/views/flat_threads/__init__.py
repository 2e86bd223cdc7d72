"""Flat threads: items and the order of replies."""
