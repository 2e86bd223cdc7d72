"""Serving of recipes: candidates, chunks and pages."""
