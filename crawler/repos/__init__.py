"""Whole repos: fetch and import."""
