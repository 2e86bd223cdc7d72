"""XRPC: server kit and client."""
