"""Accounts and sessions of the PDS."""
