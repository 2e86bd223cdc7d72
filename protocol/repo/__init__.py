"""Repositories: CAR files, commits, whole repos, differences."""
