"""`penstock twin queue`: gang jobs with durations on whole-GPU nodes, replayed through queueing policies."""
