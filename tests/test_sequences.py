"""Windows, splits, vocabularies, batches, stories and data files, each against another answer."""

import doctest
import gzip
import hashlib
import http.server
import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnntext.sequences as seq
from rnntext import backend as library
from rnntext.backend import asarray, is_device, to_host
from rnntext.learn import evaluate

few = settings(max_examples=40, deadline=None)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)  # surrogates too


def needs(package):
    found = importlib.util.find_spec(package)
    return pytest.mark.skipif(found is None, reason=f"{package} is not installed")


def test_the_examples_of_the_docstrings(fresh_library):
    found = doctest.testmod(seq)
    assert found.attempted >= 7 and not found.failed


# Calls that are wrong: what came, what was expected.

STEPS = np.arange(10.0)
DATES = np.array(["2020-01-01", "NaT"], "datetime64[D]")
ENDS = np.array(["2020-01-01", "2020-01-02"], "datetime64[D]")
LINE = "1 Mary went to the garden.\n2 Where?\tgarden"
SCALE = seq.Standardiser(np.arange(10.0).reshape(5, 2))
WRONG = {
    "windows of text": (lambda: seq.windows(["a", "b"], 1), TypeError, "becomes ids first"),
    "windows of nothing": (lambda: seq.windows(None, 1), TypeError, "stream .n, ....* object"),
    "windows of a number": (lambda: seq.windows(3.0, 1), TypeError, r"got \(\) float64"),
    "windows of lists": (lambda: seq.windows([[1, 2], [3]], 1), TypeError, "different lengths"),
    "windows without a date": (lambda: seq.windows(DATES, 1), ValueError, r"holds NaT at \[1\]"),
    "an empty stream": (lambda: seq.windows([], 1), ValueError, "need 2 steps, got 0"),
    "one fraction": (lambda: seq.split_in_time(10, 0.5), ValueError, r"add up to 1, got \[0.5\]"),
    "a NaN fraction": (lambda: seq.split_in_time(10, (np.nan, 1)), ValueError, "add up to 1"),
    "a wide gap": (lambda: seq.split_in_time(10, gap=20), ValueError, "10 steps are too few"),
    "many folds": (lambda: seq.rolling_origin(3, 10), ValueError, "3 steps are too few for 10"),
    "scale of dates": (lambda: seq.Standardiser(ENDS), TypeError, "numbers, got .* datetime64"),
    "another width": (lambda: SCALE(np.ones((4, 3))), ValueError, r"\(..., 2\).*got \(4, 3\)"),
    "a width of 1": (lambda: SCALE(np.ones((4, 1))), ValueError, r"\(..., 2\).*got \(4, 1\)"),
    "undo of a width": (lambda: SCALE.undo([1.0]), ValueError, r"\(..., 2\).*got \(1,\)"),
    "no window": (lambda: seq.persistence(np.ones((0, 3))), ValueError, r"got \(0, 3\)"),
    "no mean": (lambda: seq.moving_average(np.ones((0, 3))), ValueError, r"got \(0, 3\)"),
    "half a period": (lambda: seq.seasonal(STEPS, 2.5), ValueError, "period must be an integer"),
    "a size in words": (lambda: seq.Unigram([1], "3"), ValueError, "size must be an integer"),
    "a smoothing": (lambda: seq.Unigram([1], 3, smoothing=-1), ValueError, "0 or more, got -1"),
    "nothing to score": (lambda: seq.Unigram([1], 3).cross_entropy([]), ValueError, "no tokens"),
    "text as ids": (lambda: seq.Unigram(["a"], 3), TypeError, "Vocabulary.encode makes them"),
    "half a lag": (lambda: seq.autocorrelation(STEPS, 2.0), ValueError, "lags must be an integer"),
    "too many lags": (lambda: seq.autocorrelation(STEPS, 10), ValueError, "below n.*got 10"),
    "lags of dates": (lambda: seq.autocorrelation(ENDS, 1), TypeError, "numbers, got"),
    "a constant": (lambda: seq.autocorrelation(np.full(1000, 0.1), 1), ValueError, "constant"),
    "a band in percent": (lambda: seq.confidence_band(10, 95), ValueError, "0 and 1, got 95"),
    "a band of nothing": (lambda: seq.confidence_band(0), ValueError, "1 or more, got 0"),
    "words of a list": (lambda: seq.words(["ab", "c"]), TypeError, "one text, a str, got list"),
    "words of bytes": (lambda: seq.words(b"ab"), TypeError, "got bytes: decode"),
    "an id as token": (lambda: seq.Vocabulary(["a"]).encode([1]), TypeError, "type int"),
    "ids of two texts": (lambda: seq.Vocabulary(["a"]).decode([[0]]), ValueError, r"\(1, 1\)"),
    "one id": (lambda: seq.Vocabulary(["a"]).decode(0), ValueError, r"\(n,\), got \(\)"),
    "no stream": (lambda: seq.build_vocabulary(None), TypeError, "not iterable"),
    "numbers to count": (lambda: seq.build_vocabulary([1, 2]), TypeError, "text, got 1"),
    "special letters": (lambda: seq.build_vocabulary("ab", special="<pad>"), TypeError, "list"),
    "a special twice": (lambda: seq.build_vocabulary("a", special=["<unk>"]), ValueError, "twice"),
    "half a size": (lambda: seq.one_hot([0], 2.0), ValueError, "size must be an integer"),
    "one step": (lambda: seq.Streams([1.0], batch_size=1, steps=1), ValueError, "at least 2"),
    "numbers to pad": (lambda: seq.pad([1, 2]), TypeError, "sequence 0 must be a stream"),
    "text to pad": (lambda: seq.pad([["a"], ["b", "c"]]), TypeError, "becomes ids first"),
    "a hole to pad": (lambda: seq.pad([[1.0], [2.0, np.nan]]), ValueError, "1 holds nan at .1"),
    "NaN among ids": (lambda: seq.pad([[1]], value=np.nan), ValueError, "nan is no int64"),
    "half an id": (lambda: seq.pad([[1]], value=0.5), ValueError, "0.5 is no int64"),
    "a large byte": (lambda: seq.pad([np.uint8([1])], value=300), ValueError, "300 is no uint8"),
    "one axis": (lambda: seq.unpad(np.ones(3), [1]), ValueError, r"\(T, B, ...\), got \(3,\)"),
    "half a length": (lambda: seq.unpad(np.ones((3, 1)), [1.5]), ValueError, "integers in 1..T=3"),
    "a list of tasks": (lambda: seq.stories(["one fact"], 1), ValueError, "known are"),
    "half a story": (lambda: seq.stories("one fact", 1.5), ValueError, "count must be"),
    "nothing to read": (lambda: seq.read_stories(None), TypeError, "a str, got NoneType"),
    "no support": (lambda: seq.read_stories(LINE), ValueError, "answer.*got '2 Where"),
    "a later support": (lambda: seq.read_stories(LINE + "\t9"), ValueError, "line 9 is no"),
    "a late question": (lambda: seq.write_stories([seq.Story(["a."], [
        seq.Question("q?", "a", (0,), 7)])]), ValueError, "after sentence 7 of 1"),
    "nothing dropped": (lambda: seq.World().drop(0, "Mary", "apple"), ValueError, "by nobody"),
    "an infinite price": (lambda: seq.log_returns([1, np.inf]), ValueError, r"got inf at \[1\]"),
    "one price": (lambda: seq.log_returns(1.0), TypeError, "stream"),
    "a list of files": (lambda: seq.fetch(["timemachine"]), ValueError, "known are"),
}


@pytest.mark.parametrize("call", WRONG)
def test_wrong_calls_are_named(call):
    run, kind, words = WRONG[call]
    with pytest.raises(kind, match=words):
        run()


# Windows


@few
@given(n=st.integers(2, 40), span=st.integers(1, 12), horizon=st.integers(1, 6),
       stride=st.integers(1, 9), width=st.integers(0, 2))
def test_windows_are_what_a_loop_would_cut(n, span, horizon, stride, width):
    x = np.arange(n * max(width, 1)).reshape((n, width) if width else (n,))
    starts = [s for s in range(0, n, stride) if s + span + horizon <= n]
    if not starts:
        with pytest.raises(ValueError, match="need"):
            seq.windows(x, span, horizon=horizon, stride=stride)
        return
    inputs, targets = seq.windows(x, span, horizon=horizon, stride=stride)
    assert inputs.shape[:2] == (span, len(starts)) and targets.shape[:2] == (horizon, len(starts))
    for i, s in enumerate(starts):
        assert (inputs[:, i] == x[s:s + span]).all()
        assert (targets[:, i] == x[s + span:s + span + horizon]).all()


@few
@given(n=st.integers(10, 60), span=st.integers(1, 5), horizon=st.integers(1, 4), data=st.data())
def test_no_window_sees_the_future(n, span, horizon, data):
    cut = data.draw(st.integers(0, n - 1))
    x = np.arange(float(n))
    changed = x.copy()
    changed[cut:] = -1e9
    a, b = (seq.windows(v, span, horizon=horizon)[0] for v in (x, changed))
    ends_before = np.arange(a.shape[1]) + span <= cut
    assert (a == b)[:, ends_before].all() and (a != b)[-1, ~ends_before].all()


def test_windows_of_two_streams_are_views():
    x, y = np.random.default_rng(0).standard_normal((2, 50))
    inputs, targets = seq.windows(x, 5, horizon=2, target=y)
    assert (targets[:, 3] == y[8:10]).all()
    assert np.shares_memory(inputs, x) and np.shares_memory(targets, y)
    with pytest.raises(ValueError, match="read-only"):
        inputs[0, 0] = 1


def test_a_window_may_be_as_long_as_the_stream_allows():
    inputs, targets = seq.windows(range(5), 4)
    assert inputs.tolist() == [[0], [1], [2], [3]] and targets.tolist() == [[4]]
    inputs, _ = seq.windows(ENDS, 1)
    assert inputs.dtype.kind == "M" and inputs.shape == (1, 1)


@pytest.mark.parametrize(("arguments", "words"), [
    (dict(span=0), "span must be an integer of 1 or more, got 0"),
    (dict(span=2.0), "span must be an integer"),
    (dict(span=True), "span must be an integer"),
    (dict(span=3, stride=0), "stride must be"),
    (dict(span=3, horizon=-1), "horizon must be"),
    (dict(span=9, horizon=2), "need 11 steps, got 10"),
    (dict(span=3, target=np.arange(9.0)), "target has 9 steps, x has 10"),
])
def test_windows_refuse(arguments, words):
    with pytest.raises(ValueError, match=words):
        seq.windows(np.arange(10.0), **arguments)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_holes_are_named(value):
    x = np.zeros((5, 2))
    x[3, 1] = value
    for made in (lambda: seq.windows(x, 2), lambda: seq.Standardiser(x),
                 lambda: seq.Streams(x, batch_size=1, steps=2)):
        with pytest.raises(ValueError, match=r"\[3, 1\]"):
            made()
    with pytest.raises(TypeError, match="stream"):
        seq.windows(np.array(["a", "b"]), 1)


# Splits


@few
@given(n=st.integers(1, 500), gap=st.integers(0, 20),
       shares=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_splits_are_blocks_in_time(n, gap, shares):
    fractions = tuple(s / sum(shares) for s in shares)
    try:
        parts = seq.split_in_time(n, fractions, gap=gap)
    except ValueError:
        assert n - gap * (len(shares) - 1) < 2 * sum(shares)
        return
    assert parts[0].start == 0 and parts[-1].stop == n
    for a, b in zip(parts, parts[1:], strict=False):
        assert b.start - a.stop == gap
    left = n - gap * (len(shares) - 1)
    for part, fraction in zip(parts, fractions, strict=True):
        size = part.stop - part.start
        assert size > 0 and abs(size - fraction * left) <= 1.01


@few
@given(n=st.integers(4, 300), folds=st.integers(1, 10), gap=st.integers(0, 10))
def test_rolling_origin_tests_each_step_once_after_its_training(n, folds, gap):
    try:
        pairs = list(seq.rolling_origin(n, folds, gap=gap))
    except ValueError:
        assert n < folds + 1 or n - folds * (n // (folds + 1)) <= gap
        return
    tested = np.concatenate([np.arange(n)[test] for _, test in pairs])
    assert len(pairs) == folds and (np.diff(tested) == 1).all() and tested[-1] == n - 1
    for train, test in pairs:
        assert train.start == 0 and 0 < train.stop == test.start - gap


@pytest.mark.parametrize("fractions", [(), (0.5, 0.4), (1.2, -0.2), (1.0, 0.0)])
def test_fractions_are_checked(fractions):
    with pytest.raises(ValueError, match="add up to 1"):
        seq.split_in_time(100, fractions)


def test_windows_of_two_parts_share_nothing():
    x = np.arange(300)
    train, test = seq.split_in_time(len(x), (0.6, 0.4), gap=0)
    a, b = (np.concatenate(seq.windows(x[part], 10, horizon=5)) for part in (train, test))
    assert a.max() < b.min()


# Scale, baselines, correlation


@pytest.mark.parametrize("shape", [(20,), (20, 3)])
def test_standardiser(backend, shape):
    rng = np.random.default_rng(1)
    x = (5 + 3 * rng.standard_normal(shape)).astype("float32")
    scale = seq.Standardiser(x)
    z = scale(asarray(x))
    assert is_device(z) == (backend != "numpy") and z.dtype == "float32"
    np.testing.assert_allclose(to_host(z), (x - x.mean(0)) / x.std(0), rtol=0, atol=1e-5)
    np.testing.assert_allclose(to_host(scale.undo(z)), x, rtol=1e-5)
    assert scale(x).dtype == "float32" and isinstance(scale(x), np.ndarray)


def test_standardiser_knows_only_what_it_was_given():
    x = np.concatenate([np.zeros(10), np.ones(10) * 100])
    assert (seq.Standardiser(x[:10])(x) == x).all()  # a constant stays a constant
    with pytest.raises(ValueError, match="empty"):
        seq.Standardiser(x[:0])
    tenth = seq.Standardiser(np.full((7, 2), 0.1))  # whose mean is not 0.1 in float64
    assert (tenth([[0.1, 0.1]]) == 0).all() and tenth.deviation.tolist() == [1, 1]
    assert np.allclose(tenth.undo(tenth(np.ones((3, 2)))), 1)


def test_baselines_by_a_loop(backend):
    x = np.random.default_rng(2).standard_normal((9, 4, 2)).astype("float32")
    given_ = asarray(x)
    for made, at in ((seq.persistence(given_, 5), lambda j: x[-1]),
                     (seq.seasonal(given_, 4, 5), lambda j: x[[5, 6, 7, 8, 5][j]]),
                     (seq.moving_average(given_, 5), lambda j: x.mean(0))):
        assert made.shape == (5, 4, 2) and is_device(made) == (backend != "numpy")
        for j in range(5):
            np.testing.assert_allclose(to_host(made[j]), at(j), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="period of 10"):
        seq.seasonal(given_, 10)


@few
@given(period=st.integers(1, 8), horizon=st.integers(1, 20), span=st.integers(8, 15))
def test_seasonal_is_exact_on_a_period(period, horizon, span):
    x = np.tile(np.random.default_rng(period).standard_normal(period), 50)
    inputs, targets = seq.windows(x, span, horizon=horizon)
    assert (seq.seasonal(inputs, period, horizon) == targets).all()


@few
@given(x=st.lists(st.integers(-9, 9), min_size=3, max_size=30).filter(lambda x: len(set(x)) > 1))
def test_autocorrelation_by_its_definition(x):
    m, n = sum(x) / len(x), len(x)
    total = sum((v - m) ** 2 for v in x)
    want = [sum((x[t] - m) * (x[t - k] - m) for t in range(k, n)) / total for k in range(n)]
    np.testing.assert_allclose(seq.autocorrelation(np.array(x), n - 1), want, atol=1e-12)


def test_autocorrelation_of_a_known_process():
    rng, x = np.random.default_rng(3), np.zeros(20_000)
    for t, e in enumerate(rng.standard_normal(len(x) - 1), 1):
        x[t] = 0.8 * x[t - 1] + e
    np.testing.assert_allclose(seq.autocorrelation(x, 5), 0.8 ** np.arange(6), atol=0.04)
    noise = seq.autocorrelation(rng.standard_normal(20_000), 1000)[1:]
    assert 0.03 < (abs(noise) > seq.confidence_band(20_000)).mean() < 0.07
    assert abs(seq.confidence_band(100) - 0.196) < 1e-3
    large = seq.autocorrelation(1e200 * noise[:50], 3)
    np.testing.assert_allclose(large, seq.autocorrelation(noise[:50], 3), atol=1e-12)
    for wrong, words in ((np.ones(5), "constant"), (np.ones((5, 2)), "lags")):
        with pytest.raises(ValueError, match=words):
            seq.autocorrelation(wrong, 2)


def test_unigram():
    ids = np.array([0, 1, 1, 2, 1, 0])
    plain = seq.Unigram(ids, 4, smoothing=0)
    p = np.array([2, 3, 1]) / 6
    assert abs(plain.cross_entropy(ids) + (p * np.log(p)).sum()) < 1e-12
    assert plain.most_frequent == 1 and plain.cross_entropy(np.array([3])) == np.inf
    smooth = seq.Unigram(ids, 4)
    assert abs(smooth.cross_entropy(np.array([3])) - np.log(10)) < 1e-12
    assert abs(smooth.probabilities.sum() - 1) < 1e-12
    for wrong, kind in ((np.array([4]), ValueError), (np.array([-1]), ValueError),
                        (np.array([0.5]), TypeError)):
        with pytest.raises(kind, match="ids must be"):
            smooth.cross_entropy(wrong)
    with pytest.raises(ValueError, match="no tokens"):
        seq.Unigram(np.array([], dtype="int64"), 3, smoothing=0)


# Vocabularies


@few
@given(text=ANY_TEXT)
def test_any_text_comes_back_from_its_characters(text):
    vocabulary = seq.build_vocabulary(text, unknown=None)
    ids = vocabulary.encode(text)
    assert ids.dtype == "int64" and "".join(vocabulary.decode(ids)) == text
    assert sorted(vocabulary.tokens) == sorted(set(text))
    counts = Counter(text)
    assert vocabulary.tokens == sorted(counts, key=lambda t: (-counts[t], t))


@few
@given(text=ANY_TEXT, late=ANY_TEXT)
def test_characters_beside_special_tokens(text, late):
    vocabulary = seq.build_vocabulary(text, special=["<pad>", "<eos>"])
    assert vocabulary.tokens[:3] == ["<pad>", "<eos>", "<unk>"]
    assert "".join(vocabulary.decode(vocabulary.encode(text))) == text
    want = [c if c in text else "<unk>" for c in late]
    assert vocabulary.decode(vocabulary.encode(late)) == want
    assert vocabulary.encode(["<eos>"]).tolist() == [1]


@few
@given(text=ANY_TEXT, lower=st.booleans())
def test_words_keep_all_but_the_spaces(text, lower):
    found = seq.words(text, lower)
    whole = text.lower() if lower else text
    assert "".join(found) == "".join(c for c in whole if not c.isspace())
    assert all(w and not any(c.isspace() for c in w) for w in found)


@few
@given(stream=st.lists(st.sampled_from(["a", "bb", "ccc", "dd", "e", "<unk>"])),
       least=st.integers(1, 4), late=st.lists(st.text(max_size=3)))
def test_unknown_and_rare_words(stream, least, late):
    vocabulary = seq.build_vocabulary(stream, min_count=least, special=["<pad>"])
    assert vocabulary.tokens[:2] == ["<pad>", "<unk>"] and len(vocabulary) == len(vocabulary.ids)
    counts = Counter(stream)
    for token, i in zip(stream + late, vocabulary.encode(stream + late).tolist(), strict=True):
        known = counts[token] >= least or token in ("<pad>", "<unk>")
        assert vocabulary.tokens[i] == (token if known else "<unk>")
        assert (token in vocabulary) == known


def test_marks_stay_with_their_letters():
    assert seq.words("cafe\u0301, \u0939\u093f\u0928\u094d\u0926\u0940!") == [
        "cafe\u0301", ",", "\u0939\u093f\u0928\u094d\u0926\u0940", "!"]
    assert seq.words("don't 3.5\tx_1\u2028") == ["don", "'", "t", "3", ".", "5", "x", "_", "1"]


def test_vocabulary_refuses():
    two = seq.Vocabulary(["the", "cat"])
    with pytest.raises(seq.UnknownTokenError, match="'dog' at position 1"):
        two.encode(["the", "dog"])
    with pytest.raises(TypeError, match=r"encode\(words\(text\)\)"):
        two.encode("the cat")
    for wrong in ([2], [-1]):
        with pytest.raises(ValueError, match=r"0\.\.1"):
            two.decode(np.array(wrong))
    with pytest.raises(ValueError, match="'a' stands twice"):
        seq.Vocabulary(["a", "b", "a"])
    for names in (dict(unknown="<unk>"), dict(special=["<pad>"])):
        with pytest.raises(ValueError, match="not in the vocabulary"):
            seq.Vocabulary(["a"], **names)
    known = seq.Vocabulary(["the", "<unk>"], unknown="<unk>")
    with pytest.raises(TypeError, match="type int"):
        known.encode([0])  # not an unknown word, but a mistake
    with pytest.raises(TypeError, match="text, got 3"):
        seq.Vocabulary(["a", 3])
    with pytest.raises(ValueError, match="give them a name"):
        seq.build_vocabulary("aab", min_count=2, unknown=None)
    assert two.decode([]) == [] and two.encode([]).shape == (0,)


@few
@given(ids=st.lists(st.integers(0, 6), max_size=8))
def test_one_hot_is_a_row_of_the_identity(ids):
    ids = np.array(ids, dtype="int32")
    assert (seq.one_hot(ids, 7, "float64") == np.eye(7)[ids]).all()
    assert seq.one_hot([], 7).shape == (0, 7) and seq.one_hot(3, 7).argmax() == 3


def test_one_hot_where_the_ids_are(backend):
    ids = np.array([[0, 2], [1, 1]])
    made = seq.one_hot(asarray(ids), 3)
    assert is_device(made) == (backend != "numpy") and made.dtype == "float32"
    assert (to_host(made) == np.eye(3)[ids]).all()
    assert is_device(seq.one_hot([0, 1], 3)) == (backend != "numpy")
    with pytest.raises(TypeError, match="integers"):
        seq.one_hot(np.array([0.0]), 3)
    with pytest.raises(ValueError, match="got 3"):
        seq.one_hot(np.array([3]), 3)


# Batches


@few
@given(n=st.integers(1, 60), B=st.integers(1, 5), T=st.integers(1, 9), own=st.booleans())
def test_streams_continue_in_every_column(n, B, T, own):
    x = np.arange(n)
    target = -x if own else None
    length = (n if own else n - 1) // B
    if not length:
        with pytest.raises(ValueError, match="too few"):
            seq.Streams(x, batch_size=B, steps=T, target=target)
        return
    streams = seq.Streams(x, batch_size=B, steps=T, target=target)
    chunks = list(streams)
    assert len(chunks) == len(streams) and all(len(a) == T for a, _ in chunks[:-1])
    a, b = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    assert (a == np.arange(length)[:, None] + length * np.arange(B)).all()
    assert (b == (-a if own else a + 1)).all()
    assert streams.left_out == (n if own else n - 1) - length * B < B


@few
@given(n=st.integers(6, 60), B=st.integers(1, 5), T=st.integers(1, 70))
def test_a_mean_over_chunks_is_the_mean_over_all_steps(n, B, T):
    x = np.random.default_rng(n).standard_normal(n)
    streams = seq.Streams(x, batch_size=B, steps=T)
    used = streams.length * B
    got = evaluate(lambda a: a, streams, lambda model, a, b: ((model(a) - b) ** 2).mean())
    assert abs(got - ((x[:used] - x[1:used + 1]) ** 2).mean()) < 1e-9


def test_streams_come_where_arrays_are_born(backend):
    x = np.random.default_rng(0).standard_normal((30, 4)).astype("float32")
    for a, b in seq.Streams(x, batch_size=3, steps=4):
        assert is_device(a) == is_device(b) == (backend != "numpy")
        assert a.dtype == "float32" and a.shape[1:] == (3, 4)


@few
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=6), width=st.integers(0, 2),
       value=st.sampled_from([0, -1, 99]))
def test_padding_and_back(lengths, width, value):
    rng = np.random.default_rng(len(lengths))
    tail = (width,) if width else ()
    given_ = [rng.integers(0, 5, (n, *tail)) for n in lengths]
    padded, found = seq.pad(given_, value=value)
    assert padded.shape == (max(lengths), len(lengths), *tail) and found.tolist() == lengths
    for b, n in enumerate(lengths):
        assert (padded[n:, b] == value).all()
    for a, b in zip(seq.unpad(padded, found), given_, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and (a == b).all()


def test_padding_may_be_anything_that_its_type_holds():
    padded, _ = seq.pad([[1.0], [2.0, 3.0]], value=np.nan)
    assert np.isnan(padded[1, 0]) and padded.dtype == "float64"
    padded, _ = seq.pad([np.float32([1]), np.int8([1, 2])], value=0.5)
    assert padded.dtype == "float32" and padded[1, 0] == 0.5
    assert seq.pad([[True], [True, True]], value=0)[0].tolist() == [[True, True], [False, True]]
    padded, lengths = seq.pad([[7]])
    assert padded.shape == (1, 1) and seq.unpad(padded, lengths)[0].tolist() == [7]


def test_padding_refuses():
    for wrong, words in (([], "no sequences"), ([[1], []], "sequence 1 is empty"),
                         ([np.ones((2, 3)), np.ones((2, 4))], "sequence 1 has steps")):
        with pytest.raises(ValueError, match=words):
            seq.pad(wrong)
    for lengths in ([1], [0, 2], [1, 4]):
        with pytest.raises(ValueError, match="integers in 1..T=3"):
            seq.unpad(np.ones((3, 2)), np.array(lengths))


# Stories. This reader shares no code with the world of the chapter: it looks through the text.

MOVES = r"(?:went back to|went to|moved to|travelled to|journeyed to)"
TAKES, DROPS = r"(?:got|took|grabbed|picked up)", r"(?:dropped|left|discarded|put down)"


def last(pattern, sentences):
    "Number of the last sentence that matches, and its groups."
    for i in reversed(range(len(sentences))):
        if found := re.fullmatch(pattern, sentences[i]):
            return i, *found.groups()
    return None


def place_of(name, sentences):
    if moved := last(rf"{name} {MOVES} the (\w+)\.", sentences):
        return moved[1]
    handled = last(rf"(\w+) ({TAKES}|{DROPS}) the {name}(?: there)?\.", sentences)
    if not handled:
        return None
    at, who, verb = handled
    return place_of(who, sentences if re.fullmatch(TAKES, verb) else sentences[:at])


def answer(text, sentences):
    if found := re.fullmatch(r"Where is (?:the )?(\w+)\?", text):
        return place_of(found[1], sentences)
    if found := re.fullmatch(r"Is (\w+) in the (\w+)\?", text):
        where = place_of(found[1], sentences)
        return None if where is None else "yes" if where == found[2] else "no"
    if found := re.fullmatch(r"Where was the (\w+) before the (\w+)\?", text):
        path = [place_of(found[1], sentences[:t + 1]) for t in range(len(sentences))]
        path = [p for p, q in zip(path, [None, *path], strict=False) if p and p != q]
        at = max((i for i, p in enumerate(path) if p == found[2]), default=0)
        return path[at - 1] if at else None
    name = re.fullmatch(r"What is (\w+) afraid of\?", text)[1].capitalize()
    kind = last(rf"{name} is a (\w+)\.", sentences)
    many = kind and {"mouse": "Mice", "wolf": "Wolves", "sheep": "Sheep", "cat": "Cats"}[kind[1]]
    feared = many and last(rf"{many} are afraid of (\w+)\.", sentences)
    return {"mice": "mouse", "wolves": "wolf", "sheep": "sheep", "cats": "cat"}[
        feared[1]] if feared else None


@pytest.mark.parametrize("task", seq.TASKS)
def test_answers_and_reasons_by_an_independent_reader(task):
    told = seq.stories(task, 12 if task == "three facts" else 60, seed=11)
    facts = {"one fact": 1, "two facts": 2, "three facts": 3, "yes or no": 1, "deduction": 2}[task]
    for story in told:
        assert len(story.questions) == 5
        for q in story.questions:
            heard = story.sentences[:q.after]
            assert answer(q.text, heard) == q.answer
            assert len(set(q.support)) == facts and max(q.support) < q.after
            reasons = [story.sentences[i] for i in sorted(q.support)]
            assert answer(q.text, reasons) == q.answer  # they are enough
            if q.answer != "no":
                for i in range(facts):  # and each is needed
                    assert answer(q.text, reasons[:i] + reasons[i + 1:]) != q.answer


@few
@given(task=st.sampled_from(list(seq.TASKS)), count=st.integers(0, 4),
       questions=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_stories_repeat_and_survive_writing(task, count, questions, seed):
    told = seq.stories(task, count, questions=questions, seed=seed)
    assert told == seq.stories(task, count, questions=questions, seed=seed)
    assert len(told) == count and seq.read_stories(seq.write_stories(told)) == told


def test_stories_do_not_depend_on_hashing():
    code = ("import hashlib; from rnntext.sequences import *; t = ''.join(write_stories("
            "stories(k, 5, seed=3)) for k in TASKS); print(hashlib.md5(t.encode()).hexdigest(),"
            "build_vocabulary(words(t)).tokens[:9])")
    made = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           env=os.environ | {"PYTHONHASHSEED": str(i)}).stdout for i in (1, 2)}
    assert len(made) == 1


def test_contradictions_are_refused():
    world = seq.World()
    world.move(0, "Mary", "garden")
    world.take(1, "Mary", "milk")
    with pytest.raises(ValueError, match="milk is held by Mary, expected nobody"):
        world.take(2, "John", "milk")
    with pytest.raises(ValueError, match="milk is held by Mary, expected John"):
        world.drop(2, "John", "milk")
    assert world.where("milk") == ("garden", (1, 0)) and world.before("milk", "garden") is None
    world.drop(2, "Mary", "milk")
    world.take(3, "Mary", "milk")
    assert world.where("milk") == ("garden", (3, 0)) and world.where("John") is None


def test_stories_in_unusual_clothes():
    text = "1 Мария пошла в сад.\n\n2 Где Мария?\tсад\t1\n3 Why?\tbecause\t\n"
    story, = seq.read_stories(text)
    assert story.sentences == ["Мария пошла в сад."]
    assert [(q.answer, q.support) for q in story.questions] == [("сад", (0,)), ("because", ())]
    assert seq.read_stories(seq.write_stories([story])) == [story]
    assert seq.read_stories("") == [] and seq.write_stories([]) == ""


def test_yes_and_no_are_as_frequent():
    told = seq.stories("yes or no", 200, seed=5)
    share = np.mean([q.answer == "yes" for s in told for q in s.questions])
    assert abs(share - 0.5) < 0.06


def test_what_stories_refuse():
    with pytest.raises(ValueError, match="known are 'one fact'"):
        seq.stories("four facts", 1)
    with pytest.raises(ValueError, match="from 1, got 'Mary went home.'"):
        seq.read_stories("Mary went home.")


def real_stories(shared_data, number):
    (path,) = shared_data.glob(f"babi/tasksv11/en/qa{number}_*train.txt")
    return seq.read_stories(path.read_text(encoding="utf-8"))


REAL = {"one fact": 1, "two facts": 2, "three facts": 3, "yes or no": 6, "deduction": 15}


def hear(world, number, sentence):
    acts = rf"(\w+) (?:({MOVES})|({TAKES})|({DROPS})) the (\w+)(?: there)?\."
    found = re.fullmatch(acts, sentence)
    act = "move" if found[2] else "take" if found[3] else "drop"
    getattr(world, act)(number, found[1], found[5])


@pytest.mark.parametrize("task", ["one fact", "two facts", "three facts", "yes or no"])
def test_the_world_answers_the_published_questions(task, shared_data):
    right = reasons = 0
    for story in real_stories(shared_data, REAL[task]):
        world, heard = seq.World(), 0
        for q in story.questions:
            for number in range(heard, q.after):
                hear(world, number, story.sentences[number])
            heard = q.after
            names = re.findall(r"\w+", q.text)
            got = world.before(names[3], names[-1]) if task == "three facts" else world.where(
                names[1] if task == "yes or no" else names[-1])
            said = got and got[0]
            if task == "yes or no":
                said = "yes" if said == names[-1] else "no"
            right += said == q.answer
            reasons += bool(got) and set(got[1][-2:]) <= set(q.support)
    assert right == 1000 and reasons > 950, (right, reasons)


@pytest.mark.parametrize("task", REAL)
def test_stories_are_as_rich_as_the_published_ones(task, shared_data):
    real, ours = real_stories(shared_data, REAL[task]), seq.stories(task, 200, seed=1)
    seen = []
    for told in (real, ours):
        asked = [q for s in told for q in s.questions]
        texts = [t for s in told for t in s.sentences] + [q.text for q in asked]
        tokens = set(seq.words(" ".join(texts + [q.answer for q in asked]), lower=True))
        counts = Counter(q.answer for q in asked)
        seen.append((tokens, set(counts), {len(q.support) for q in asked},
                     np.mean([q.after for q in asked]), max(counts.values()) / len(asked),
                     np.mean([q.after - min(q.support) for q in asked])))
    (tokens, answers, facts, after, most, back), mine = seen
    assert mine[0] == tokens and mine[1] == answers and mine[2] == facts
    assert abs(mine[3] / after - 1) < 0.25, (mine[3], after)
    assert abs(mine[4] - most) < 0.05, (mine[4], most)
    assert mine[5] > 0.7 * back, (mine[5], back)  # at least as far to look back


# Data files


class Server(http.server.BaseHTTPRequestHandler):
    content, asked = b"", 0

    def do_GET(self):
        type(self).asked += 1
        if self.path != "/file.txt":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path, fresh_library):
    "A file on a server of this machine, under the name 'made-up', and an empty cache."
    data = "Ein Text, été.".encode()
    Server.content, Server.asked = data, 0
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{running.server_port}/file.txt"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "RNNTEXT_SHARED_DATA",
                 "RNNTEXT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("RNNTEXT_DATA", str(tmp_path / "cache"))
    file = seq.DataFile("lm/made-up.txt", hashlib.sha256(data).hexdigest(), url)
    monkeypatch.setitem(seq.FILES, "made-up", file)
    library.fresh()
    yield file
    running.shutdown()
    running.server_close()


def change(monkeypatch, file, **parts):
    monkeypatch.setitem(seq.FILES, "made-up", file._replace(**parts))


def test_fetch_downloads_once(server, tmp_path, capfd):
    path = seq.fetch("made-up")
    assert path == tmp_path / "cache/lm/made-up.txt" and path.read_bytes() == Server.content
    assert seq.fetch("made-up") == path and Server.asked == 1
    assert seq.read_text("made-up") == "Ein Text, été."
    assert capfd.readouterr() == ("", "")
    path.write_bytes(b"somebody else wrote here")
    assert seq.fetch("made-up").read_bytes() == Server.content and Server.asked == 2


class BreaksOff(Server):
    "Breaks off in the middle of its first answer; knows ranges, or does not."
    ranges, sent = True, []

    def do_GET(self):
        start = 0
        if self.ranges and (wanted := self.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        rest = self.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if not self.sent:
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)
        self.sent.append(len(rest))


@pytest.mark.parametrize("ranges", [True, False])
def test_fetch_goes_on_where_it_broke_off(server, monkeypatch, ranges):
    data = bytes(range(256)) * 2000
    monkeypatch.setattr(BreaksOff, "content", data)
    monkeypatch.setattr(BreaksOff, "ranges", ranges)
    monkeypatch.setattr(BreaksOff, "sent", [])
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), BreaksOff)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        change(monkeypatch, server, sha256=hashlib.sha256(data).hexdigest(),
               url=f"http://127.0.0.1:{running.server_port}/file.txt")
        with pytest.raises(seq.FetchError, match="cannot be had"):
            seq.fetch("made-up")
        assert seq.fetch("made-up").read_bytes() == data
        again = BreaksOff.sent[1]  # what did not reach the file, at least the second half
        assert len(data) // 2 <= again < len(data) if ranges else again == len(data)
    finally:
        running.shutdown()
        running.server_close()


def test_fetch_takes_the_part_that_is_the_text(server, monkeypatch):
    change(monkeypatch, server, part=(4, 8))
    assert seq.read_text("made-up") == "Text"


def test_fetch_refuses_another_hash(server, monkeypatch, tmp_path):
    Server.content = b"something else"
    with pytest.raises(seq.FetchError, match="not the file that was expected"):
        seq.fetch("made-up")
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]  # nothing is left behind


def test_fetch_offline(server, monkeypatch):
    monkeypatch.setenv("RNNTEXT_OFFLINE", "yes")
    library.fresh()
    with pytest.raises(seq.FetchError, match="offline = yes.*RNNTEXT_OFFLINE.*put http://127"):
        seq.fetch("made-up")
    assert Server.asked == 0
    monkeypatch.setenv("RNNTEXT_OFFLINE", "no")
    library.fresh()
    path = seq.fetch("made-up")
    monkeypatch.setenv("RNNTEXT_OFFLINE", "yes")
    library.fresh()
    assert seq.fetch("made-up") == path  # what is there may be read


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/file.txt", "missing"])
def test_fetch_without_an_answer(server, monkeypatch, url):
    change(monkeypatch, server, url=server.url.replace("file", "none") if url == "missing" else url)
    with pytest.raises(seq.FetchError, match="cannot be had.*sha256"):
        seq.fetch("made-up")


def test_fetch_looks_beside_first(server, monkeypatch, tmp_path):
    monkeypatch.setenv("RNNTEXT_SHARED_DATA", str(tmp_path / "beside"))
    path = tmp_path / "beside" / server.path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another version")
    assert seq.fetch("made-up") == tmp_path / "cache/lm/made-up.txt"
    path.write_bytes(Server.content)
    assert seq.fetch("made-up") == path and Server.asked == 1


def test_fetch_of_an_unknown_name():
    with pytest.raises(ValueError, match="known are tinyshakespeare, timemachine"):
        seq.fetch("shakespeare")


@pytest.mark.parametrize(("name", "words", "sha256"), [
    ("tinyshakespeare", "First Citizen:", None),
    ("timemachine", "The Time Machine",
     "8424dbd9532ac81f7e5f0b6add90e6952baea29158309d7d1bf3884f4e12c516")])
def test_published_texts(name, words, sha256, shared_data, monkeypatch):
    monkeypatch.setenv("RNNTEXT_SHARED_DATA", str(shared_data))
    text = seq.read_text(name)
    assert text.lstrip("\ufeff").strip().startswith(words)
    if sha256:
        assert hashlib.sha256(text.encode()).hexdigest() == sha256
    for file in seq.FILES.values():
        assert re.fullmatch(r"https://[^ ]*/[0-9a-f]{40}/[^ ]+", file.url)


def test_read_table(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('when,x,"kind, of"\n2020/01/31,1,a\n2020/02/01,,"b,c"\n', encoding="utf-8")
    found = seq.read_table(path)
    assert [str(day)[:10] for day in found["when"]] == ["2020-01-31", "2020-02-01"]
    assert found["x"][0] == 1 and np.isnan(found["x"][1])
    assert found["kind, of"].tolist() == ["a", "b,c"]
    with gzip.open(tmp_path / "a.csv.gz", "wt", encoding="utf-8") as file:
        file.write(path.read_text(encoding="utf-8"))
    assert seq.read_table(tmp_path / "a.csv.gz")["x"][0] == 1
    path.write_text("x,y\n1,2\n3\n")
    with pytest.raises(ValueError, match="line 3 of a.csv has 1 values, the header 2"):
        seq.read_table(path)
    path.write_text("x,y\n")
    assert [len(c) for c in seq.read_table(path).values()] == [0, 0]
    path.write_text("")
    with pytest.raises(ValueError, match="a.csv is empty: a header"):
        seq.read_table(path)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(seq.importlib.util, "find_spec", lambda name: None)
    for read, package in ((seq.sp500, "arch"), (seq.seattle_days, "vega_datasets"),
                          (seq.digits, "sklearn")):
        with pytest.raises(ModuleNotFoundError, match=rf"{package}.*rnntext\[data\]"):
            read()
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match="carries no file"):
        seq.packaged("numpy", "no/such.csv")


def test_import_loads_no_package_of_data():
    code = "import sys, rnntext.sequences; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                            check=True).stdout.split()
    heavy = {"pooch", "requests", "pandas", "arch", "vega_datasets", "sklearn", "matplotlib"}
    assert not heavy & set(loaded)


@needs("arch")
def test_the_market():
    market = seq.sp500()
    r = seq.log_returns(market["Adj Close"])
    assert len(r) == 5030 and str(market["Date"][0])[:10] == "1999-01-04"
    assert abs(seq.autocorrelation(r, 1)[1] + 0.0701) < 1e-4
    assert abs(seq.autocorrelation(abs(r), 1)[1] - 0.2443) < 1e-4
    with pytest.raises(ValueError, match="above 0 and finite, got 0.0"):
        seq.log_returns(np.array([1.0, 0.0]))


@needs("vega_datasets")
def test_the_station():
    days, hours = seq.seattle_days(), seq.seattle_hours()
    assert len(days["date"]) == 1461 and (np.diff(days["date"]).astype(int) == 86400).all()
    assert len(hours["temp"]) == 8759 and 37 < hours["temp"].min() < hours["temp"].max() < 76


@needs("sklearn")
def test_the_digits():
    rows, labels = seq.digits()
    assert rows.shape == (8, 1797, 8) and set(labels.tolist()) == set(range(10))
    from sklearn.datasets import load_digits

    images = load_digits().images
    assert (rows.swapaxes(0, 1) == images).all()


def test_docstrings_of_a_made_up_library(tmp_path, monkeypatch):
    source = '''
    "The module."
    if True:
        class A:
            """The class.

              More."""
            def f(self):
                "not a docstring" + "at all"
            async def g(self):
                "The method."
                return [lambda: "nor this"]
    try:
        pass
    except OSError:
        def h(): "In a handler."
    '''
    import sysconfig
    import textwrap

    for name, text in (("b.py", textwrap.dedent(source)), ("a.py", '"First, \u00e9."'),
                       ("c.py", "no python"), ("test/d.py", '"Left out."'), ("e.txt", '"Too."')):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    want = ["First, \u00e9.", "The module.", "The class.\n\nMore.", "The method."]
    want.append("In a handler.")
    assert seq.docstrings() == "\n\n".join(want)
    by_module = seq.module_docstrings()
    assert list(by_module) == ["a.py", "b.py"] and by_module["b.py"] == want[1:]
