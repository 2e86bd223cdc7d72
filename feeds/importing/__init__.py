"""Feeds of other services, written as recipes."""
