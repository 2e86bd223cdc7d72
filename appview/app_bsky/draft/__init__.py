"""Methods of app.bsky.draft."""
