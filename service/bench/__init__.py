"""Measurements of the parts, each beside its floor."""
