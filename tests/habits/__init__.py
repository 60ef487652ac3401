"""Tests about the repository itself. Each rule is a function over sources, and each is shown a planted violation."""
