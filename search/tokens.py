"""The tokenizer, under its earlier name."""

from search.text.tokens import tokenize as tokenize
