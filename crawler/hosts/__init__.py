"""Hosts: discovery, listing, status."""
