"""Private state of feeds: recipes, feedback of readers, statistics."""
