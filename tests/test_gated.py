"""The generators of chapter 08, against a regular expression and against counting."""

import re
from collections import Counter

import numpy as np
import pytest

from rnntext.gated import LSTM, REBER, delayed_xor, embedded_reber, reber_following

# The grammar a second time, written from its drawing: what may come from the node where T loops
# (LOWER), and from the node that P leads to from there (UPPER).
UPPER = "(?:XT*VP)*(?:S|XT*VV)"
LOWER = f"T*V(?:V|P{UPPER})"
INNER = f"B(?:TS*X{UPPER}|P{LOWER})E"
EMBEDDED = re.compile(f"B(?:T{INNER}T|P{INNER}P)E")


def words(n):
    "All strings of n symbols that the regular expression knows, by way of their beginnings."
    found = [""]
    for _ in range(n):
        found = [w + s for w in found for s in REBER if partial(w + s)]
    return [w for w in found if EMBEDDED.fullmatch(w)]


def partial(beginning):
    "Can it be the beginning of a string? Tried with the shortest ends there are."
    ends = ("", "E", "TE", "PE", "ETE", "EPE", *(f"{m}E{o}E" for m in MIDDLES for o in "TP"))
    return any(EMBEDDED.fullmatch(beginning + end) for end in ends)


MIDDLES = ("S", "V", "VV", "XS", "XVV", "TXS", "PVV", "BTXS", "BPVV", "TBTXS", "PBTXS",
           "BTBTXS", "BPBTXS")


@pytest.mark.parametrize("inner", [(5, 5), (5, 6), (8, 12), (5, 40), (30, 60)], ids=str)
def test_reber_strings_are_in_the_grammar_and_of_the_lengths_asked_for(inner):
    for string in embedded_reber(200, inner=inner, seed=1):
        assert EMBEDDED.fullmatch(string), string
        assert inner[0] <= len(string) - 4 <= inner[1]
        assert string[1] == string[-2]


def test_reber_strings_are_as_likely_as_the_walk_makes_them():
    n = 40_000
    counts = Counter(s[2:-2] for s in embedded_reber(n, inner=(5, 7), seed=2))
    chance = {s: 0.5 ** (len(s) - 2) for s in counts}  # one half each, but for the B and the E
    assert set(map(len, counts)) == {5, 6, 7}
    for string, count in counts.items():
        p = chance[string] / sum(chance.values())
        assert abs(count / n - p) < 5 * (p * (1 - p) / n) ** 0.5, string


def test_reber_strings_of_a_length_are_all_there():
    found = set(embedded_reber(4000, inner=(5, 7), seed=3))
    assert {w for n in (9, 10, 11) for w in words(n)} == found


def test_reber_following_is_what_the_expression_allows():
    for string in embedded_reber(60, inner=(5, 14), seed=4):
        legal = reber_following(string)
        assert legal.shape == (len(string), 7) and legal.dtype == bool
        for t in range(len(string)):
            allowed = [partial(string[:t + 1] + s) for s in REBER]
            assert legal[t].tolist() == allowed, (string, t)
        assert [REBER[k] for k in np.flatnonzero(legal[-3])] == [string[1]]


@pytest.mark.parametrize(("string", "words"), [
    ("BTBTXSEPE", "'P' at position 7, legal is T"),
    ("BTBTXSET", "ends too early, next would be E"),
    ("", "ends too early, next would be B"),
    ("BTBTXSETEB", "'B' at position 9, legal is the end"),
    ("BTBtXSETE", "'t' at position 3, legal is T or P"),
])
def test_reber_following_refuses_other_strings(string, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        reber_following(string)


@pytest.mark.parametrize("inner", [(4, 9), (9, 8), (0, 5)], ids=str)
def test_embedded_reber_refuses_impossible_lengths(inner):
    with pytest.raises(ValueError, match="inner must be"):
        embedded_reber(3, inner=inner)


@pytest.mark.parametrize("number", [0, -1, 1.5, True])
def test_generators_refuse_impossible_numbers(number):
    for make in (lambda: embedded_reber(number), lambda: delayed_xor(number, 3),
                 lambda: delayed_xor(3, number)):
        with pytest.raises(ValueError, match="must be an integer of 1 or more"):
            make()


def test_generators_repeat_with_their_seed():
    assert embedded_reber(5, seed=1) == embedded_reber(5, seed=1) != embedded_reber(5, seed=2)
    assert (delayed_xor(50, 4, seed=1)[0] == delayed_xor(50, 4, seed=1)[0]).all()
    assert (delayed_xor(50, 4, seed=1)[0] != delayed_xor(50, 4, seed=2)[0]).any()


@pytest.mark.parametrize("delay", [1, 2, 20])
def test_delayed_xor_is_the_xor_of_the_marked_bits(delay):
    x, answers = delayed_xor(4000, delay, seed=0)
    assert x.shape == (delay + 1, 4000, 2) and answers.shape == (4000,)
    assert set(np.unique(x[..., 0])) == {-1, 1} and (x[..., 1].sum(axis=0) == 2).all()
    marked = x[..., 0][x[..., 1].astype(bool)].reshape(2, -1)
    assert (answers == (marked[0] != marked[1])).all()
    for t in range(delay + 1):  # no bit alone says anything
        assert abs((x[t, :, 0] * (2 * answers - 1)).mean()) < 0.06


def test_a_forget_bias_starts_where_it_was_asked_to():
    start = {v: LSTM(2, 3, forget_bias=v, seed=0).b_l0.data[3:6].tolist() for v in (0, 1, 3)}
    assert start == {v: [v] * 3 for v in (0, 1, 3)}
