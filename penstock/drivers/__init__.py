"""What we run on: one folder per backend, each behind the six verbs of ``drivers.base``."""
