"""Connections, bulk transfer and text rules of PostgreSQL."""
