"""Shard processes and their router."""
