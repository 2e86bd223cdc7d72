"""Recipes: feeds that are written in a file."""
