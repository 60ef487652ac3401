"""What we sell: one folder per kind of service, each with its spec and its recipe."""
