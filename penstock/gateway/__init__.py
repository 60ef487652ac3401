"""The token data plane: an OpenAI-compatible gateway on raw protocols that outlives the control plane."""
