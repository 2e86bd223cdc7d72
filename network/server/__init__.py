"""Server side shared by every server: listener, shares of clients, bounds."""
