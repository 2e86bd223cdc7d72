"""Guarded HTTP client: addresses, redirects, sizes, times, budgets."""
