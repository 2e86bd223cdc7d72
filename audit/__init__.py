"""The audit: samples, rebuilt roots, rows, repairs."""
