"""Collections: one description each, in registry.py (see source.Collection)."""
