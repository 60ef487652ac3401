"""The factory's own certificate authority, and what an agent needs to be certified by it."""
