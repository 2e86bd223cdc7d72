"""The pages at `/`: rendered here, readable without JavaScript, nothing vendored."""
