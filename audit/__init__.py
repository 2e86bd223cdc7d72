"""Audits: samples, rebuilt roots, row checks and repairs."""
