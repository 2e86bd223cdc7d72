"""Benchmark of feeds."""
