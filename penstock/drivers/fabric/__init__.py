"""The contract of drivers of fabric managers: one allocation is one partition of the manager's fabric.

``config`` reads what is wanted, ``contract`` holds a driver to it. The same manager is driven by one agent at a time, and
by another one once that is lost, so everything is found on the manager. "Already gone" is: no partition of the allocation.
"""
