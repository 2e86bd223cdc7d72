"""The search language: from a query text to a tree that any engine can answer."""
