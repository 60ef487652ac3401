"""Distinct shapes and how often each comes."""

import numpy as np

from penstock.scheduler.packing.shape import mix_of, shapes_of
from tests.support.packing import ask


def test_shapes_do_not_depend_on_the_order_of_arrival() -> None:
    coming = [ask(milli=470), ask(2), ask(milli=470), ask(0), ask(milli=470, memory=1)]
    shapes, rows = shapes_of(np.array(coming).T)
    again, rows_again = shapes_of(np.array(coming[::-1]).T)
    assert len(shapes) == 4
    assert rows[0] == rows[2]
    assert all((getattr(shapes, name) == getattr(again, name)).all() for name in shapes.__slots__)
    assert rows.tolist() == rows_again.tolist()[::-1]
    assert shapes.total_milli[rows].tolist() == [470, 2_000, 470, 0, 470]
    assert len(shapes.take(rows[:2])) == 2


def test_the_shares_add_up() -> None:
    shapes, rows = shapes_of(np.array([ask(), ask(), ask(0), ask(2)]).T)
    mix = mix_of(shapes, rows)
    assert mix.weights.sum() == 1.0
    assert mix.weights[rows[0]] == 0.5
