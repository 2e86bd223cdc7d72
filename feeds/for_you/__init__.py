"""For You: posts that accounts with the viewer's taste like."""
