"""Load balancers by HAProxy: a process each, in a namespace of its own that is plugged into the network as a guest is.

So security groups, ACLs and spoofing guards of the port hold for it as for any guest, and it sees nothing else of its host. It
stands on what the driver ``nftables`` made: the network's bridge. The process gives up root for Debian's user ``haproxy``
once it listens, in an empty root folder. Keys of certificates lie in its run folder (memory, on any usual host), mode
0600, never in arguments.
"""
