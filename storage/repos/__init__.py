"""Rows of repos: states, selections, identities, scope."""
