"""The nouns and their rules. No I/O, no clock: everything a rule needs is an argument."""
