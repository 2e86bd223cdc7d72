"""Rows of hosts: listing, activity, budgets, status."""
