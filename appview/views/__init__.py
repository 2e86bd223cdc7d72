"""The JSON of the lexicons, made of loaded rows without any query."""
