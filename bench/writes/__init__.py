"""Writes to a Personal Data Server."""
