"""Partitions of an InfiniBand fabric: a key per tenant's group of nodes, so that others' traffic does not meet it.

A partition key has 15 bits and a membership bit on top (InfiniBand Architecture 1.3, 10.9): 0x7fff is the default
partition, which everybody is in, and 0 is invalid; what is between them is given out.
"""

PKEY_MIN = 0x0001
PKEY_MAX = 0x7FFE
FULL_MEMBER = 0x8000


def shown(pkey: int) -> str:
    """Return a key as fabric managers write it, with the bit of full members."""
    return f"{pkey | FULL_MEMBER:#06x}"
