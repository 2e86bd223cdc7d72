"""Writes the clients from the lexicons: `make docs`."""
