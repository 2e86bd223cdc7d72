"""Repositories: CAR files, commits, whole repos, partial repos."""
