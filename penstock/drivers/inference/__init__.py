"""Calls the engines of a project's own endpoints: vectors for knowledge bases, text for answers."""
