"""n-grams against a slow plain reference, windows against exact sources, and the limits of both."""

import itertools
import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnntext import window as W
from rnntext.autograd import gradcheck
from rnntext.backend import asarray, to_host
from rnntext.learn import cross_entropy, predict, softmax
from rnntext.sequences import module_docstrings


def slow_kneser_ney(ids, size, order, discounts):
    "p(token | context) straight from the definitions, by counting through the text each time."
    ids = list(ids)

    def grams(n):
        return [tuple(ids[i:i + n]) for i in range(len(ids) - n + 1)]

    def count(gram):
        n = len(gram)
        if n == order:
            return sum(g == gram for g in grams(n))
        return len({g[0] for g in grams(n + 1) if g[1:] == gram})

    def estimate(gram):
        n = len(gram)
        counts = [count(g) for g in sorted(set(grams(n)))]
        ones, twos = counts.count(1), counts.count(2)
        return ones / (ones + 2 * twos) if ones else 0.5

    def p(context, token, n):
        if n == 0:
            return 1 / size
        context = tuple(context)[len(context) - (n - 1):] if n > 1 else ()
        lower = p(context[1:], token, n - 1)
        counts = [count((*context, w)) for w in range(size)]
        if not sum(counts):
            return lower
        D = estimate((*context, token)) if discounts is None else discounts[n - 1]
        return (max(counts[token] - D, 0) + D * sum(c > 0 for c in counts) * lower) / sum(counts)

    return lambda context, token: p(context, token, min(order, len(context) + 1))


TEXT = [0, 1, 2, 0, 1, 3, 0, 1, 2, 2, 0, 3, 1, 0, 1, 2, 0, 0, 1, 3, 3, 0]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("fixed", [None, 0.4])
def test_kneser_ney_is_the_slow_reference(order, fixed):
    discounts = None if fixed is None else [fixed] * order
    fast = W.KneserNey(TEXT, 5, order, discounts=discounts)
    slow = slow_kneser_ney(TEXT, 5, order, discounts)
    for context in itertools.product(range(5), repeat=order - 1):
        expected = [slow(context, w) for w in range(5)]
        numpy.testing.assert_allclose(fast.distribution(context), expected, atol=1e-12)
        numpy.testing.assert_allclose([fast.probability(context, w) for w in range(5)], expected,
                                      atol=1e-12)
    expected = [math.log(slow(TEXT[max(0, t - order + 1):t], w)) for t, w in enumerate(TEXT)]
    numpy.testing.assert_allclose(fast.log_probabilities(TEXT), expected, atol=1e-12)


def test_toy_by_hand():
    toy = W.KneserNey([0, 1, 0, 2, 0, 1], 3, 2, discounts=[0.5, 0.5])
    numpy.testing.assert_allclose(toy.distribution([0]), [1 / 6, 7 / 12, 1 / 4], atol=1e-15)
    numpy.testing.assert_allclose(toy.distribution([]), [1 / 2, 1 / 4, 1 / 4], atol=1e-15)
    assert W.discount([1, 1, 1, 2, 5]) == 3 / 5 and W.discount([3, 4]) == 0.5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=5, max_size=60), st.integers(1, 5),
       st.lists(st.integers(0, 6), max_size=7))
def test_probabilities_add_up_and_none_is_zero(ids, order, context):
    model = W.KneserNey(ids, 7, order)
    p = model.distribution(context)
    assert abs(p.sum() - 1) < 1e-12 and p.min() > 0
    numpy.testing.assert_allclose([model.probability(context, w) for w in range(7)], p, atol=1e-14)


def test_words_keep_their_frequencies():
    ids = numpy.random.default_rng(1).integers(0, 5, 300) ** 2 % 5
    model = W.KneserNey(ids, 5, 2, discounts=[0.0, 0.6])
    before, after = (numpy.bincount(a, minlength=5) / 299 for a in (ids[:-1], ids[1:]))
    marginal = sum(before[v] * model.distribution([v]) for v in range(5) if before[v])
    numpy.testing.assert_allclose(marginal, after, atol=1e-12)


@pytest.mark.parametrize("arguments, words", [
    (([0, 7], 5), "0..4"), (([0.5, 1.0], 5), "integers"), (([[0, 1]], 5), "stream"),
    (([0, 1], 5, 3), "3 or more"), (([0, 1], 0), "size"), (([0, 1], 2, 0), "order"),
])
def test_kneser_ney_refuses(arguments, words):
    with pytest.raises((ValueError, TypeError), match=words):
        W.KneserNey(*arguments)
    for wrong in ([0.5], 0.5, [0.5, 1.5], [0.5, math.nan], ["a", 0.5]):
        with pytest.raises(ValueError, match="discounts must be 2 numbers"):
            W.KneserNey([0, 1, 0], 2, 2, discounts=wrong)


@pytest.mark.parametrize("context, token, words", [
    ([0], 4, "token"), ([0], -1, "token"), ([0], 1.0, "token"), ([4], 0, "context"),
    (0, 0, "context"), (["a"], 0, "context"), ([0.5], 0, "context"),
])
def test_unknown_ids_are_refused_not_smoothed(context, token, words):
    model = W.KneserNey(TEXT, 4, 2)
    wrong = {"token": lambda: model.probability(context, token),
             "context": lambda: model.distribution(context)}[words]
    with pytest.raises((ValueError, TypeError), match=f"{words} must be"):
        wrong()


def test_impossible_tokens_warn_nobody(recwarn):
    model = W.KneserNey([0, 1, 0, 1, 0], 3, 2, discounts=[0.0, 0.0])
    assert model.log_probabilities([0, 2, 1])[1] == -math.inf
    alternating = W.markov_source([[0.0, 1.0], [1.0, 0.0]])
    never = W.KneserNey([0, 1] * 20, 2, 2, discounts=[0.0, 0.0])
    assert alternating.loss(never) == 0  # what cannot come costs nothing, whatever its probability
    assert W.markov_source([[0.5, 0.5], [1.0, 0.0]]).loss(never) == math.inf
    assert not recwarn.list


def test_perplexity():
    assert abs(W.perplexity(numpy.log([1 / 80] * 7)) - 80) < 1e-9
    assert W.perplexity([-numpy.inf, 0.0]) == math.inf
    with pytest.raises(ValueError, match="no tokens"):
        W.perplexity([])
    for wrong in ([0.5, 0.5], [math.nan, -1.0]):
        with pytest.raises(ValueError, match="0 or below"):
            W.perplexity(wrong)


# Text


def test_tokens_and_corpus():
    assert W.tokenise("He said: no.") == ["he", "said", ":", "no", ".", W.END]
    assert W.tokenise(["a", ""]) == ["a", W.END, W.END]
    c = W.corpus(["a a b", "a b"], ["a c b"], min_count=2)
    assert [c.vocabulary.tokens[i] for i in c.test] == ["a", "<unk>", "b", W.END]
    assert c.size == 4 and len(c.train) == 7
    same = W.encoded(W.tokenise(["a a b", "a b"]), W.tokenise("a c b"), min_count=2)
    assert all((a == b).all() for a, b in zip(c[1:], same[1:], strict=True))


def test_no_docstring_on_both_sides():
    modules = module_docstrings()
    train, test = W.split_modules(modules)
    assert test and not set(train) & set(test)
    assert set(train) | set(test) == {t for texts in modules.values() for t in texts}
    with pytest.raises(ValueError, match="every"):
        W.split_modules(modules, 0)
    for first in (-1, 3):
        with pytest.raises(ValueError, match="first must be in 0..2"):
            W.split_modules(modules, 3, first)


# The network


@pytest.mark.parametrize("shared", [False, True])
def test_window_model_is_the_equation(shared, backend):
    model = W.WindowModel(9, 4, embedding_size=3, hidden_size=5, shared=shared, seed=0,
                          dtype="float64")
    ids = numpy.random.default_rng(0).integers(0, 9, (4, 6))
    C, U, c, b = (to_host(p) for p in (model.embedding.W, model.output.W, model.output.b, model.b))
    z = sum(C[ids[i]] @ model.blocks()[i] for i in range(4)) + b
    numpy.testing.assert_allclose(to_host(model(asarray(ids))), numpy.tanh(z) @ U + c, atol=1e-12)
    count = sum(p.size for p in model.parameters().values())
    assert count == W.window_parameters(9, 4, 3, 5, shared)


@pytest.mark.parametrize("shared", [False, True])
def test_window_model_gradients(shared):
    model = W.WindowModel(5, 3, embedding_size=3, hidden_size=4, outputs=2, shared=shared, seed=0,
                          dtype="float64")
    ids, y = numpy.array([[0, 1], [1, 1], [4, 2]]), numpy.array([0, 1])
    check = gradcheck(lambda: cross_entropy(model(ids), y), parameters=model.parameters())
    assert check.worst < 1e-6


def test_shared_matrix_does_not_see_order():
    ids = numpy.array([[1], [2], [3]])
    for shared in (False, True):
        model = W.WindowModel(4, 3, shared=shared, seed=0)
        same = numpy.allclose(to_host(model(ids)), to_host(model(ids[::-1].copy())), atol=1e-5)
        assert same == shared


def test_log_probabilities_of_a_text(backend):
    model = W.WindowModel(6, 2, seed=0)
    ids = numpy.random.default_rng(0).integers(0, 6, 1500)  # more than one chunk
    log_p = model.log_probabilities(ids)
    one = to_host(softmax(predict(model, asarray(ids[700:702, None]))))[0]
    assert log_p.shape == (1498,) and abs(math.exp(log_p[700]) - one[ids[702]]) < 1e-5


def test_window_model_refuses():
    model = W.WindowModel(6, 3, seed=0)
    for wrong in (numpy.zeros((2, 4), int), numpy.zeros(3, int)):
        with pytest.raises(ValueError, match="span, B"):
            model(wrong)
    with pytest.raises((ValueError, TypeError)):
        model(numpy.full((3, 1), 6))
    for name in ("size", "span", "embedding_size", "hidden_size", "outputs"):
        with pytest.raises(ValueError, match=name):
            W.WindowModel(**{"size": 5, name: 0})
        if name != "outputs":
            with pytest.raises(ValueError, match=name):
                W.window_parameters(**{"size": 5, "span": 3, name: 0})
    with pytest.raises(ValueError, match="chooses from 4 outputs"):
        W.WindowModel(6, 3, outputs=4, seed=0).log_probabilities([0, 1, 2, 5, 1])


@pytest.mark.parametrize("shared", [False, True])
def test_no_windows_are_no_logits(shared):
    model = W.WindowModel(6, 3, shared=shared, seed=0)
    assert to_host(model(numpy.zeros((3, 0), int))).shape == (0, 6)


def test_training_repeats(backend):
    ids = W.random_markov(1, 4, seed=0).sample(2000, seed=1)
    losses = [W.train_on_stream(W.WindowModel(4, 2, seed=2), ids, epochs=1, seed=3,
                                progress=False).loss for _ in range(2)]
    assert losses[0] == losses[1]


# Sources


def brute_force(source, span):
    "Best loss from the probabilities of all strings, each by the forward algorithm on its own."
    def p(string):
        a = source.stationary
        for x in string:
            a = (a * source.emission[:, x]) @ source.transition
        return a.sum()

    def entropy(n):
        q = numpy.array([p(s) for s in itertools.product(range(source.size), repeat=n)])
        return -(q[q > 0] * numpy.log(q[q > 0])).sum()

    return entropy(span + 1) - entropy(span)


HIDDEN = W.Source([[0.9, 0.1], [0.3, 0.7]], [[0.8, 0.1, 0.1], [0.1, 0.2, 0.7]])


@pytest.mark.parametrize("source", [HIDDEN, W.random_markov(2, 3, seed=0),
                                    W.agreement_source(2, kinds=2, fillers=1)],
                         ids=["hidden", "markov", "agreement"])
def test_best_loss_is_brute_force(source):
    losses = [source.best_loss(span) for span in range(5)]
    numpy.testing.assert_allclose(losses, [brute_force(source, s) for s in range(5)], atol=1e-10)
    assert all(b <= a + 1e-12 for a, b in zip(losses, losses[1:], strict=False))
    assert source.state_loss() <= losses[-1] + 1e-12


def test_entropy_rate_of_markov_sources():
    source = W.random_markov(3, 3, seed=5)
    assert abs(source.best_loss(3) - source.state_loss()) < 1e-12
    assert abs(source.best_loss(4) - source.best_loss(3)) < 1e-12
    assert source.best_loss(2) > source.best_loss(3) + 0.01
    chain = W.markov_source([[0.9, 0.1], [0.5, 0.5]])
    expected = -(5 * (0.9 * math.log(0.9) + 0.1 * math.log(0.1)) + math.log(0.5)) / 6
    assert abs(chain.best_loss(1) - expected) < 1e-12


@pytest.mark.parametrize("distance", [1, 2, 3, 4])
def test_losses_of_agreement(distance):
    source, n = W.agreement_source(distance, kinds=3, fillers=2), distance
    rate = (math.log(3) + (n - 1) * math.log(2)) / (n + 1)
    assert abs(source.state_loss() - rate) < 1e-12
    for span in range(1, 5):
        ids, p, following = source.contexts(span)
        at_close = W.agreement_loss(source, 3, following, span)
        assert abs(at_close - (0 if n <= span else math.log(3))) < 1e-9
    assert abs(source.best_loss(n) - rate) < 1e-9 or n == 1
    # whatever a model says, it cannot beat ln K without the opening
    if n > 2:
        q = numpy.random.default_rng(0).dirichlet([1] * source.size,
                                                  source.contexts(2)[0].shape[1])
        assert W.agreement_loss(source, 3, q, 2) >= math.log(3) - 1e-9


def test_states_left_for_good_have_no_share():
    source = W.Source([[0.5, 0.3, 0.2], [0, 0.2, 0.8], [0, 0.7, 0.3]], numpy.eye(3))
    assert source.stationary[0] == 0 and abs(source.stationary[1:] - [7 / 15, 8 / 15]).max() < 1e-12
    ids, p, _ = source.contexts(2)
    assert (ids > 0).all() and abs(p.sum() - 1) < 1e-12
    assert (source.sample(500, seed=0) > 0).all()


def test_a_hidden_source_is_filtered_to_its_rate():
    "Each span comes nearer to one who carries the state's distribution, and none reaches it."
    source = W.Source([[0.99, 0.01], [0.01, 0.99]], [[0.7, 0.3], [0.3, 0.7]])
    ids = source.sample(40_000, seed=0)
    beta, p = source.stationary, []
    for x in ids:
        p.append(beta @ source.emission[:, x])
        beta = (beta * source.emission[:, x]) @ source.transition / p[-1]
    windows, _, following = source.contexts(6)
    table = {tuple(w): f for w, f in zip(windows.T.tolist(), following, strict=True)}
    best = -numpy.mean([math.log(table[tuple(ids[t - 6:t].tolist())][ids[t]])
                        for t in range(6, len(ids))])
    assert abs(best - source.best_loss(6)) < 0.005
    assert source.state_loss() < -numpy.log(p[6:]).mean() < best - 0.01


def test_samples_have_the_exact_frequencies():
    for source in (HIDDEN, W.random_markov(2, 3, seed=0), W.agreement_source(2)):
        ids = source.sample(40_000, seed=0)
        windows, p, _ = source.contexts(2)
        counts = numpy.zeros((source.size, source.size))
        numpy.add.at(counts, (ids[:-1], ids[1:]), 1 / (len(ids) - 1))
        exact = numpy.zeros_like(counts)
        exact[tuple(windows)] = p
        assert abs(counts - exact).max() < 0.01
        assert (counts[exact == 0] == 0).all()
    assert (HIDDEN.sample(50, seed=1) == HIDDEN.sample(50, seed=1)).all()


def test_exact_loss_of_models():
    ids = HIDDEN.sample(20_000, seed=0)
    counted = W.KneserNey(ids, 3, 3)
    test = HIDDEN.sample(60_000, seed=1)
    sampled = -counted.log_probabilities(test)[2:].mean()
    assert abs(HIDDEN.loss(counted) - sampled) < 0.01
    assert HIDDEN.best_loss(2) < HIDDEN.loss(counted) < HIDDEN.best_loss(2) + 0.01
    model = W.WindowModel(3, 2, seed=0)
    assert abs(HIDDEN.loss(model) + model.log_probabilities(test).mean()) < 0.02


def test_window_reaches_its_floor_and_not_the_next():
    source = W.random_markov(3, 3, seed=1)
    stream = source.sample(15_000, seed=0)
    for span in (2, 3):
        model = W.WindowModel(3, span, embedding_size=8, hidden_size=32, seed=0)
        for rate in (1e-2, 1e-3):
            W.train_on_stream(model, stream, epochs=3, learning_rate=rate, seed=0, progress=False)
        assert source.best_loss(span) < source.loss(model) < source.best_loss(span) + 0.02
    assert source.best_loss(2) > source.best_loss(3) + 0.05


def test_sources_refuse():
    with pytest.raises(ValueError, match="add up to 1"):
        W.Source([[0.5, 0.4], [0.5, 0.5]], [[1.0], [1.0]])
    with pytest.raises(ValueError, match="several stationary"):
        W.Source(numpy.eye(2), [[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="emission"):
        W.Source([[1.0]], [[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(ValueError, match="span"):
        HIDDEN.contexts(-1)
    with pytest.raises(ValueError, match="too many"):
        W.random_markov(1, 40, seed=0).contexts(8)
    with pytest.raises(ValueError, match="emission must be .* = \\(1, V\\)"):
        W.Source([[1.0]], [0.5, 0.5])
    for transition in ([[0.5, 0.4], [0.5, 0.5]], [[2.0, -1.0], [0.5, 0.5]], [[math.nan]]):
        with pytest.raises(ValueError, match="in row 0"):
            W.stationary_distribution(transition)
    for transition in ([], [1.0], [[0.5, 0.5]]):
        with pytest.raises(ValueError, match="transition must be"):
            W.stationary_distribution(transition)
    for table in (numpy.ones((2, 3)) / 3, [0.5, 0.5], 1.0):
        with pytest.raises(ValueError, match="table must be"):
            W.markov_source(table)
    with pytest.raises(ValueError, match="rows of table"):
        W.markov_source([[0.5, 0.6], [0.5, 0.5]])
    with pytest.raises(ValueError, match="27000 states"):
        W.random_markov(3, 30)
    with pytest.raises(ValueError, match="concentration"):
        W.random_markov(2, 3, concentration=0)
    for model in (W.WindowModel(4, 2, seed=0), W.WindowModel(3, 2, outputs=2, seed=0),
                  W.KneserNey([0, 1, 0, 1], 2, 2)):
        with pytest.raises(ValueError, match="the source has 3 tokens"):
            HIDDEN.loss(model)
    with pytest.raises(TypeError, match="KneserNey or a WindowModel"):
        HIDDEN.loss(HIDDEN)
    source = W.agreement_source(2)
    for q, kinds, words in ((numpy.ones((3, 3)), 2, "q must be"),
                            (source.contexts(2)[2], 4, "no 4 kinds"),
                            (source.contexts(2)[2], 0, "kinds")):
        with pytest.raises(ValueError, match=words):
            W.agreement_loss(source, kinds, q, 2)


# Constituents


def test_constituents():
    ids, classes = W.constituents(500, span=5, nouns=6, fillers=4, classes=3, seed=0)
    assert ids.shape == (5, 500) and ((ids == 0).sum(axis=0) == 1).all()
    place = (ids == 0).argmax(axis=0)
    noun = ids[place + 1, numpy.arange(500)] - 5
    assert (noun % 3 == classes).all() and noun.min() == 0 and noun.max() == 5
    assert set(place) == {0, 1, 2, 3} and ((ids > 4).sum(axis=0) == 1).all()
    assert set((W.constituents(50, places=[2], seed=0)[0] == 0).argmax(axis=0)) == {2}
    for places in ([3], [-1], [0.5], []):
        with pytest.raises(ValueError, match="starts in"):
            W.constituents(5, span=4, places=places)
    for name in ("nouns", "fillers", "classes", "span"):
        with pytest.raises(ValueError, match=name):
            W.constituents(5, **{name: 0})
    with pytest.raises(ValueError, match="span must be 2"):
        W.constituents(5, span=1)


def test_place_similarity():
    model = W.WindowModel(8, 3, shared=True, seed=0)
    for found in W.place_similarity(model, range(8)):
        numpy.testing.assert_allclose(found, 1, atol=1e-6)
    blocks, words = W.place_similarity(W.WindowModel(8, 3, seed=0), range(8))
    numpy.testing.assert_allclose(numpy.diag(blocks), 1, atol=1e-6)
    assert abs(blocks[0, 1]) < 0.2 and abs(words[0, 1]) < 0.5
    for ids in ([8], [-1], []):
        with pytest.raises(ValueError, match="ids must"):
            W.place_similarity(W.WindowModel(8, 3, seed=0), ids)
    with pytest.raises(ValueError, match="one shape"):
        W.cosine([1, 2], [1, 2, 3])


def test_a_place_without_nouns_learns_nothing_of_them():
    from rnntext.learn import Batches, fit

    ids, classes = W.constituents(800, places=range(4), seed=0)
    model = W.WindowModel(61, 6, embedding_size=16, hidden_size=32, outputs=4, seed=0)
    data = Batches(ids, classes, axes=(1, 0), batch_size=128, seed=0)
    fit(model, data, W.next_token_loss, epochs=40, learning_rate=5e-3, progress=False)
    _, same = W.place_similarity(model, range(21, 61))
    assert same[1:5, 1:5].min() > 0.7 and abs(same[1:5, [0, 5]]).max() < 0.4
