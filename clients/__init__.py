"""Typed clients of our own methods, for Python and TypeScript, and their generator."""
