"""Text of every script: tokens, stems, languages, tags and highlights."""
