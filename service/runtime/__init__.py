"""Processes, settings, databases, logs."""
