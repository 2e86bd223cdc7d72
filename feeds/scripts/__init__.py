"""Feeds written in Python: one file with one function, run in a child process."""
