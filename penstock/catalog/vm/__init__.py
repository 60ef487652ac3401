"""Virtual machines as a service."""
