"""The embedding model: reference vectors of the original, which the served one is compared with."""
