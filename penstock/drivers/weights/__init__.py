"""The weights of models on a node: fetched once, checked, kept for the next engine, given up when room is needed."""
