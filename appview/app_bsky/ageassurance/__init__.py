"""Methods of app.bsky.ageassurance."""
