"""Packing: requests for CPU, memory and fractions of devices, one after the other, onto nodes of many kinds.

``shape`` and ``residual`` say what is asked and what is left, ``table`` keeps what each shape would cost on
each node up to date, ``lookahead`` is Penstock's own cost, ``baselines`` and ``fragment`` are what it is
compared with, ``migrate`` makes room, ``power`` keeps budgets.
"""
