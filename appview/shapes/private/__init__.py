"""Answers from private state, and changes of it."""
