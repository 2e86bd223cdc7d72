"""Repos of the PDS: writes, reads, blocks."""
