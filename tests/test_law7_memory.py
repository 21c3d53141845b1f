"""Law 7: inference stores nothing. What it needs beyond its output does not grow with time."""

import contextlib
import gc
import tracemalloc

import numpy as np
import pytest
from under_law import KINDS, as_list

from rnntext.autograd import no_grad
from rnntext.backend import to_host

FORMS = {
    "one layer": ({}, False),
    "one layer, ragged": ({}, True),
    "two layers": ({"num_layers": 2}, False),
    "two layers, ragged": ({"num_layers": 2}, True),
    "both directions": ({"bidirectional": True}, False),
    "both directions, ragged": ({"bidirectional": True}, True),
}


INPUTS, HIDDEN, BATCH = 8, 64, 8  # large enough that a few kB of the interpreter's own do not count


def beyond_the_output(layer, T: int, ragged: bool, context=no_grad) -> int:
    "Bytes at the peak of a call, without its output: the least of two, since noise only adds."
    x = np.random.default_rng(0).standard_normal((T, BATCH, INPUTS)).astype("float32")
    lengths = [T, T // 2, T - 1, 1] * (BATCH // 4) if ragged else None
    with context():
        layer(x[:70])  # what is made once is made here
        return min(peak_of_a_call(layer, x, lengths) for _ in range(2))


def peak_of_a_call(layer, x, lengths) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        y, end = layer(x, None, lengths)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return peak - sum(to_host(a).nbytes for a in [y, *as_list(end)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_law7_inference_needs_no_more_memory_for_a_longer_sequence(kind, form, fresh_library):
    options, ragged = FORMS[form]
    layer = KINDS[kind].make(INPUTS, HIDDEN, seed=0, dtype="float32", **options).eval()
    short, long = (beyond_the_output(layer, T, ragged) for T in (1_000, 10_000))
    assert 0 < long < 1.1 * short, (short, long)


@pytest.mark.parametrize("kind", KINDS)
def test_law7_the_meter_sees_what_recording_stores(kind, fresh_library):
    layer = KINDS[kind].make(INPUTS, HIDDEN, seed=0, dtype="float32")
    short, long = (beyond_the_output(layer, T, False, contextlib.nullcontext) for T in (500, 5_000))
    assert long > 3 * short
