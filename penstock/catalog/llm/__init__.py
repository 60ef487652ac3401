"""LLM as a service: an OpenAI-compatible endpoint with one engine process per replica."""
