"""`penstock twin place`: requests arrive at a list of nodes, and policies compete for how much of it they can allocate."""
