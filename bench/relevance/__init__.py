"""Relevance: judged and generated queries over a fixed corpus in ten languages."""
