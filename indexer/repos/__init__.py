"""Whole repos: import, differences, selections, export."""
