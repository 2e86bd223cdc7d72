"""Handles, keys and PLC operations of the PDS."""
