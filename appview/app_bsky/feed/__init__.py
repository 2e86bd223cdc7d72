"""Methods of app.bsky.feed."""
