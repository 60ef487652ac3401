"""Answers the world for tenants' public names, by UDP and TCP. Not a driver of the six verbs: it is told a zone and serves it."""
