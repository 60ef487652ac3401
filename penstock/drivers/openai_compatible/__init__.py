"""Endpoints that are somewhere else: any server that speaks OpenAI's API, such as llama.cpp, a NIM or another site.

Nothing is started. An allocation is the promise to look whether the server is there and has the model; "already
gone" is no folder with that promise.
"""
