"""Benchmarks of the methods of the read side."""
