"""Carries networks in imagination: it keeps what is wanted and says what packets would do. Nothing is plugged in anywhere.

"Already gone" is: no file of the allocation.
"""
