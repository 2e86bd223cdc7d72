"""Hydration and views over XRPC: addresses in, what clients show out."""
