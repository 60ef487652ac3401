"""Engines that are processes of a node: their folders, locks, starts, health and ends. A support package, no driver.

A driver of such an engine says what its command is and what its health answers mean; all the rest is here.
This file imports nothing on purpose: engine processes start through it and must stay small.
"""
