"""Build tool: the compression dictionary for records, and made-up records for it."""
