"""A fabric manager in imagination: it keeps which nodes are in which partition. No switch ever hears of it.

A driver of a real fabric manager takes the same config: ``pkey`` and ``members``, the names of nodes. "Already gone" is:
no file of the allocation.
"""
