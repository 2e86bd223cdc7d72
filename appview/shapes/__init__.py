"""Shapes that several methods share."""
