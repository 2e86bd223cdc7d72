"""The statistics page and its plots."""
