"""The contract of drivers that carry tenant networks: one allocation is one network on one host.

A config says everything that is wanted there: subnets, ports with their rules, where the other hosts' ports
are, names, the way out. ``ensure`` replaces what is there by that as a whole. ``model`` reads configs, ``reach``
says what they mean for a packet, ``contract`` holds a driver to it. "Already gone" is: no device, namespace,
process, rule or file of the network is left on the host.
"""
