"""The reference driver: a simulated site whose "hardware" remembers across crashes and refuses what cannot be."""
