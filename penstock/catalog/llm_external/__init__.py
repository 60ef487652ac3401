"""Kind ``llm_external``: an endpoint whose replicas are servers that somebody else runs."""
