"""Commands of analysts: SQL over the index, and its statistics."""
