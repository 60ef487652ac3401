"""The contract of drivers that carry load balancers: one allocation is one load balancer on this host.

``model`` reads configs, ``contract`` holds a driver to what they mean. "Already gone" is: no process, namespace, device or
file of the load balancer is left on the host.
"""
