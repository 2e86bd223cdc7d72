"""Identities: cache, refresh, lookups."""
