"""Saved searches: queries that are matched against each record as it is applied."""
