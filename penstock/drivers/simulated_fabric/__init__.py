"""A fabric manager in imagination: it keeps which nodes are in which partition. No switch ever hears of it.

It keeps the contract of ``drivers/fabric``; "already gone" is: no file of the allocation.
"""
