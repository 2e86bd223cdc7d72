"""Loaded rows to the JSON of the lexicons. Pure: no query is made here."""
