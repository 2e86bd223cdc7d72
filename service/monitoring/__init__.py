"""Alarms, metrics, heartbeats, checks."""
