"""The tenant's and the operator's commands. They speak HTTP to the control plane and know nothing else of it."""
