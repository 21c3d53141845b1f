"""Forecasting: facts about the data, forecasts that cannot see ahead, steps in their place."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnntext import forecast as F
from rnntext.learn import predict

DATES, VALUES = F.seattle_weather()
Y = VALUES[:, 0]
KNOWN, TEST = F.during(DATES, 2012, 2014), F.during(DATES, 2015)
FORECASTERS = {
    "persistence": F.Persistence(),
    "climatology": F.Climatology(),
    "autoregression": F.autoregression(7),
    "regression of one day": F.Regression(1),
    "regression": F.Regression(2),
    "network": F.RecurrentForecaster(4, seed=1),
    "network of three days": F.RecurrentForecaster(4, window=3, seed=1),
}


def fitted(name):
    "The forecaster, fitted once to the years before the test; networks for a few epochs only."
    found = FORECASTERS[name]
    if not hasattr(found, "is_fitted"):
        epochs = {"epochs": 3} if name.startswith("network") else {}
        found.fit(DATES[KNOWN], VALUES[KNOWN], **epochs)
        found.is_fitted = True
    return found


def mean_errors(name):
    found = fitted(name).forecast(DATES, VALUES)
    return F.horizon_errors(found, Y, TEST).mean(axis=1)


def test_every_day_of_four_years_is_there():
    assert DATES.dtype == "datetime64[D]" and VALUES.shape == (1461, 4)
    assert DATES[0] == numpy.datetime64("2012-01-01")
    assert DATES[-1] == numpy.datetime64("2015-12-31")
    assert (numpy.diff(DATES).astype(int) == 1).all()
    assert [int(F.during(DATES, y).sum()) for y in range(2012, 2016)] == [366, 365, 365, 365]


def test_columns_are_in_their_units():
    high, low, rain, wind = VALUES.T
    assert F.COLUMNS == ("temp_max", "temp_min", "precipitation", "wind")
    assert numpy.isfinite(VALUES).all()
    assert high.min() > -5 and 30 < high.max() < 45  # °C: in °F a summer day has 80
    assert (low <= high).all()
    assert 700 < rain.sum() / 4 < 1300  # mm a year; Seattle has about 950
    assert rain.min() == 0 and wind.min() > 0 and 5 < wind.max() < 20  # m/s


def test_the_years_do_not_overlap():
    assert not (KNOWN & TEST).any() and (KNOWN | TEST).all()
    assert DATES[KNOWN].max() < DATES[TEST].min()


@pytest.mark.parametrize("name, expected", [
    ("persistence", 2.24), ("climatology", 3.00), ("autoregression", 2.17),
    ("regression of one day", 2.09), ("regression", 2.08)])
def test_baselines_have_their_known_errors(name, expected):
    assert mean_errors(name)[0] == pytest.approx(expected, abs=0.02)


def test_regression_agrees_with_the_normal_equations():
    x = VALUES.copy()
    x[:, 2] = numpy.log(1 + x[:, 2])
    phase = 2 * numpy.pi * (DATES.astype(int) + 1) / 365.2425
    rows = [numpy.r_[1, x[t], x[t - 1], numpy.sin(phase[t]), numpy.cos(phase[t]),
                     numpy.sin(2 * phase[t]), numpy.cos(2 * phase[t])] for t in range(1, 1460)]
    rows, n = numpy.array(rows), KNOWN.sum() - 2  # pairs (t, t+1) within the known days
    w = numpy.linalg.solve(rows[:n].T @ rows[:n], rows[:n].T @ Y[2:n + 2])
    found = fitted("regression").forecast(DATES, VALUES)[1:1460, 0]
    numpy.testing.assert_allclose(found, rows @ w, atol=1e-6)


# No look ahead

@pytest.mark.parametrize("name", FORECASTERS)
@settings(max_examples=8, deadline=None)
@given(today=st.integers(10, 1459), seed=st.integers(0, 9))
def test_the_future_changes_no_forecast(name, today, seed):
    changed = VALUES.copy()
    changed[today + 1:] = 100 * numpy.random.default_rng(seed).random(changed[today + 1:].shape)
    a, b = (fitted(name).forecast(DATES, v)[:today + 1] for v in (VALUES, changed))
    numpy.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", FORECASTERS)
def test_today_changes_tomorrows_forecast(name):
    changed = VALUES.copy()
    changed[1200, 0] += 5
    a, b = (fitted(name).forecast(DATES, v)[:, 0] for v in (VALUES, changed))
    assert numpy.array_equal(a[:1200], b[:1200], equal_nan=True)
    assert (a[1200] != b[1200]) == (name != "climatology")


@pytest.mark.parametrize("window", [None, 2])
def test_held_out_days_teach_nothing(window):
    def trained(values):
        f = F.RecurrentForecaster(4, window=window).fit(DATES[:500], values, epochs=1, held_out=100)
        return f.anomalies, f.model.state_dict()
    changed = VALUES[:500].copy()
    changed[400:] += 7.0
    (a, p), (b, q) = trained(VALUES[:500]), trained(changed)
    assert numpy.array_equal(a.coefficients, b.coefficients)
    assert numpy.array_equal(a.spread, b.spread)
    assert all(numpy.array_equal(p[k], q[k]) for k in p)


@pytest.mark.parametrize("window", [None, 3])
def test_validation_sees_the_one_day_forecasts_of_the_held_out_days(window):
    f = F.RecurrentForecaster(4, window=window).fit(DATES[:400], VALUES[:400], epochs=1,
                                                    held_out=100)
    found = f.forecast(DATES[:400], VALUES[:400])
    days = numpy.arange(400) >= 300
    error = F.horizon_errors(found, Y[:400], days)[0] / f.anomalies.spread[0]
    assert f.history.validation[0] == pytest.approx((error**2).mean(), rel=1e-4)


# Steps in their place

def test_horizons_on_a_ramp():
    ramp = numpy.arange(40.0)
    today = numpy.repeat(ramp[:, None], 5, axis=1)
    errors = F.horizon_errors(today, ramp, ramp >= 30)
    assert errors.tolist() == [[k] * 10 for k in (1.0, 2.0, 3.0, 4.0, 5.0)]


@given(horizons=st.integers(1, 9), n=st.integers(12, 40))
def test_the_right_answer_has_no_error(horizons, n):
    y = numpy.random.default_rng(n).standard_normal(n)
    truth = F.ahead(y, horizons)
    days = numpy.arange(n) >= horizons
    assert F.horizon_errors(truth, y, days).max() == 0
    assert numpy.isnan(truth).sum() == horizons * (horizons + 1) / 2


@pytest.mark.parametrize("k", [1, 3, 7])
def test_regression_forecasts_a_sine_at_every_horizon(k):
    t = numpy.arange(600)
    values = numpy.zeros((600, 4))
    values[:, 0] = numpy.sin(0.3 * t)  # two lags say all: y_t+1 = 2 cos(0.3) y_t - y_t-1
    days = DATES[:600]
    f = F.Regression(2, ("temp_max",), harmonics=0).fit(days[:400], values[:400])
    assert F.horizon_errors(f.forecast(days, values), values[:, 0], t >= 450)[k - 1].max() < 1e-9


def test_a_forecast_for_a_day_without_one_is_refused():
    y = numpy.arange(20.0)
    with pytest.raises(ValueError, match="must be 7 days or more"):
        F.horizon_errors(numpy.zeros((20, 7)), y, y >= 3)
    with pytest.raises(ValueError, match="no forecast for some"):
        F.horizon_errors(numpy.full((20, 7), numpy.nan), y, y >= 10)


# The season

def test_climatology_is_smooth_and_repeats():
    days = numpy.datetime64("2011-01-01") + numpy.arange(3000)
    mean = F.normal(F.climatology(DATES[KNOWN], Y[KNOWN]), days)
    assert abs(numpy.diff(mean)).max() < 0.25  # °C a day
    assert abs(mean[1461:] - mean[:-1461]).max() < 0.01  # four years later
    year = mean[:365]
    assert 5 < year.min() < 10 and 23 < year.max() < 28
    assert year.argmax() in range(200, 231)  # end of July to the middle of August


def test_climatology_finds_the_harmonics_it_was_made_of():
    true = numpy.array([10.0, 1.0, -5.0, 0.5, 0.25])
    y = F.normal(true, DATES)
    numpy.testing.assert_allclose(F.climatology(DATES, y), true, atol=1e-10)
    assert F.season(DATES, 0).shape == (1461, 0)


# The network

def test_the_state_is_carried_through_the_whole_series():
    f = fitted("network")
    x = f.anomalies.inputs(DATES, VALUES).astype("float32")
    state, found = None, []
    for row in x[:60, None]:
        h, state = predict(lambda a, s: f.model.rnn.step(a, s), row, state)
        found.append(predict(f.model.head, h)[0])
    stepwise = f.anomalies.normals(DATES[:60], 7) + f.anomalies.spread[0] * numpy.array(found)
    numpy.testing.assert_allclose(f.forecast(DATES, VALUES)[:60], stepwise, atol=1e-4)


def test_a_window_forgets_what_is_before_it():
    f, changed = fitted("network of three days"), VALUES.copy()
    changed[:1198] += 3.0
    a, b = (f.forecast(DATES, v) for v in (VALUES, changed))
    assert numpy.array_equal(a[1200:], b[1200:]) and (a[1199] != b[1199]).any()
    assert numpy.isnan(a[:2]).all() and numpy.isfinite(a[2:]).all()


def test_one_day_of_memory_does_not_use_the_recurrent_weights():
    f = F.RecurrentForecaster(4, window=1).fit(DATES[:200], VALUES[:200], epochs=1)
    before = f.forecast(DATES, VALUES)
    f.model.rnn.R_l0.data[...] = 9.0
    assert numpy.array_equal(before, f.forecast(DATES, VALUES))


def test_the_same_seed_gives_the_same_network():
    def run(seed):
        f = F.RecurrentForecaster(4, seed=seed).fit(DATES[:200], VALUES[:200], epochs=2)
        return f.forecast(DATES, VALUES)
    assert numpy.array_equal(run(3), run(3)) and not numpy.array_equal(run(3), run(4))


def test_too_few_days_are_refused():
    with pytest.raises(ValueError, match="70 days or more"):
        F.RecurrentForecaster(4).fit(DATES[:100], VALUES[:100], held_out=60)


# The bootstrap

def test_bootstrap_of_independent_days_is_the_textbook_interval():
    d = numpy.random.default_rng(0).standard_normal(400)
    low, high = F.block_bootstrap(d, block=1, samples=4000)
    half = 1.96 * d.std() / 20
    assert low == pytest.approx(d.mean() - half, abs=0.01)
    assert high == pytest.approx(d.mean() + half, abs=0.01)


def test_bootstrap_in_blocks_is_wider_for_spells():
    d = numpy.repeat(numpy.random.default_rng(0).standard_normal(40), 10)
    narrow, wide = (numpy.ptp(F.block_bootstrap(d, block=b)) for b in (1, 20))
    assert wide > 2 * narrow


def test_bootstrap_repeats_and_checks_its_block():
    d = numpy.arange(30.0)
    assert F.block_bootstrap(d, seed=1) == F.block_bootstrap(d, seed=1)
    assert F.block_bootstrap(d, block=30) == pytest.approx((d.mean(), d.mean()))
    with pytest.raises(ValueError, match="block must be 1 to 30"):
        F.block_bootstrap(d, block=31)
