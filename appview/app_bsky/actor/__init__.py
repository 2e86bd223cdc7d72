"""Methods of app.bsky.actor."""
