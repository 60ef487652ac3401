"""LLM replicas on CTranslate2: one process per replica with an OpenAI-compatible server, and its driver.

This file imports nothing on purpose: the server process starts through it and must stay small.
"""
