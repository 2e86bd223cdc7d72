"""Moves of accounts from one server to another."""
