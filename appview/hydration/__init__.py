"""Bulk reads of everything that views show: one query a kind."""
