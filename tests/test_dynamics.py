"""Chapter 02: scan, linear systems, fixed points, pendulum, Lorenz, exponents, recovery."""

import numpy as np
import pytest
from hypothesis import given, settings as hypothesis_settings
from hypothesis import strategies as st

from rnntext.autograd import Tensor, gradcheck
from rnntext.backend import DeviceError, asarray, is_device, tanh, to_host, zeros
from rnntext.dynamics import (
    NotIdentifiable,
    closed_loop,
    eigenvalues,
    fixed_points,
    iir,
    impulse_response,
    jacobian,
    linear_system,
    lorenz,
    lyapunov_exponent,
    lyapunov_spectrum,
    pendulum,
    pendulum_energy,
    phase_portrait,
    recover,
    rk4,
    scan,
    spectral_radius,
)

pytestmark = pytest.mark.usefixtures("fresh_library")


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


A = np.array([[0.8, 0.4], [-0.4, 0.6]])
B = normal(3, 2)


# The loop


def test_scan_is_the_loop(backend):
    s, actions = asarray(normal(4, 2)), asarray(normal(7, 4, 3))
    theta = asarray(A), asarray(B)
    states = scan(linear_system, s, actions, theta)
    assert states.shape == (8, 4, 2) and is_device(states) == (backend != "numpy")
    expected = to_host(s)
    for t in range(7):
        np.testing.assert_allclose(to_host(states[t]), expected, rtol=1e-12)
        expected = expected @ A + to_host(actions)[t] @ B


def test_everything_changes_with_t():
    def grow(s, a, theta):
        return np.concatenate([s * theta, a])

    def shrink(s, a, theta):
        return s[1:]

    states = scan([grow, shrink, grow], np.array([1.0]), [np.ones(2), None, np.full(1, 5.0)],
                  [2.0, None, 3.0], stacked=False)
    assert [s.tolist() for s in states] == [[1.0], [2.0, 1, 1], [1, 1], [3, 3, 5]]


@given(T=st.integers(0, 12), cut=st.integers(0, 12), seed=st.integers(0, 99))
@hypothesis_settings(max_examples=30, deadline=None)
def test_chunks_with_the_state_passed_on_are_the_whole(T, cut, seed):
    cut = min(cut, T)
    actions, s = normal(T, 3, seed=seed), normal(2, seed=seed)
    whole = scan(linear_system, s, actions, (A, B))
    first = scan(linear_system, s, actions[:cut], (A, B))
    second = scan(linear_system, first[-1], actions[cut:], (A, B))
    assert len(whole) == T + 1
    np.testing.assert_array_equal(np.concatenate([first, second[1:]]), whole)


def test_scan_of_tuples_numbers_and_lists():
    h, c = scan(lambda s, a: (s[0] + s[1], s[1] * a), (np.zeros(2), np.ones(2)), [2.0, 3.0])
    assert h[:, 0].tolist() == [0, 1, 3] and c[:, 0].tolist() == [1, 2, 6]
    assert scan(lambda s, a: [s[1], s[0]], [1.0, 2.0], steps=1).tolist() == [[1, 2], [2, 1]]
    assert scan(lambda s, a: 2 * s, 1.0, steps=3).tolist() == [1, 2, 4, 8]
    assert scan(lambda s, a: s, zeros(3), steps=0).shape == (1, 3)
    assert scan(linear_system, zeros(2, dtype="float64"), np.zeros((0, 3)), (A, B)).shape == (1, 2)


@pytest.mark.parametrize("call, said", [
    (lambda: scan(lambda s, a: s, 0.0), "how many steps"),
    (lambda: scan(lambda s, a: s, 0.0, [1, 2], steps=3), "3 steps, 2 actions"),
    (lambda: scan(lorenz, np.ones(3), params=[10.0, 28.0, 2.7], steps=9), "a tuple, an array"),
    (lambda: scan([abs], 0.0, np.zeros(2)), "2 actions, 1 maps"),
    (lambda: scan(lambda s, a: s, 0.0, 5.0), "actions must be"),
    (lambda: scan(lambda s, a: s, 0.0, np.array(5.0)), "actions must be"),
    (lambda: scan(lambda s, a: s, 0.0, steps=-1), "steps must be"),
    (lambda: scan(lambda s, a: s, 0.0, steps=2.5), "steps must be"),
    (lambda: scan(lambda s, a: s[1:], np.ones(3), steps=2), "stacked=False"),
    (lambda: scan(lambda s, a: s, 0.0, steps=True), "steps must be"),
    (lambda: scan(lambda s, a: s, 0.0, {"a": 1}), "actions must be a list or an array"),
    (lambda: scan(lambda s, a: s, 0.0, "abc"), "actions must be a list or an array"),
], ids=range(12))
def test_scan_refuses(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.parametrize("call, said", [
    (lambda: scan(lambda s, a: s, "abc", steps=1), "s0 is str 'abc' instead of a state"),
    (lambda: scan(lambda s, a: s, None, steps=1), "s0 is None"),
    (lambda: scan(lambda s, a: {"s": 1}, 0.0, steps=1), "map of step 1 returned dict"),
    (lambda: scan(lambda s: s, 0.0, steps=1), r"must take \(s, a\), .*takes \(s\)"),
    (lambda: scan(lambda s, a: s, 0.0, params=1.0, steps=1), r"\(s, a, θ\), .*takes \(s, a\)"),
    (lambda: scan([abs, lambda s: s], 0.0), "must take"),
    (lambda: recover(lambda s, a: s, np.ones((3, 1)), theta=1.0), r"must take \(s, a, θ\)"),
    (lambda: recover(np.ones((3, 1)), linear_system, theta=1.0), "f must be a function"),
    (lambda: jacobian(np.eye(2), np.ones(2)), "f must be a function"),
    (lambda: jacobian(lambda s, a: s, "ab"), "s must be real numbers"),
    (lambda: jacobian(lambda s, a: s, np.ones(2) * 1j), "s must be real numbers"),
    (lambda: fixed_points(lambda s: s, np.ones(2)), r"must take \(s, a\)"),
    (lambda: closed_loop(pendulum, 3.0), "policy must be a function"),
    (lambda: closed_loop(None, abs), "f must be a function"),
    (lambda: closed_loop(pendulum, lambda s: None)(np.ones(2)), "policy returned None"),
    (lambda: iir(np.ones(4), None), "w must be a number"),
    (lambda: iir(np.ones(4), 0.5, "a"), "h0 must be a number"),
    (lambda: iir(np.ones((4, 2)), [0.5, 0.6]), "w must be .* got list"),
    (lambda: pendulum(np.ones(2), "x"), "the torque is str"),
], ids=range(19))
def test_what_is_no_map_no_state_no_number(call, said):
    with pytest.raises(TypeError, match=said):
        call()


def test_functions_that_tell_no_signature_and_optional_arguments_are_maps():
    assert scan(max, 1.0, [3.0, 2.0]).tolist() == [1, 3, 3]  # Python tells nothing of max
    assert scan(np.add, 1.0, [3.0, 2.0]).tolist() == [1, 4, 6]
    assert scan(lambda s, *rest: s + len(rest), 0.0, [1], params=2.0).tolist() == [0, 2]
    assert scan(lambda s, a=None, theta=1.0: s + theta, 0.0, steps=2).tolist() == [0, 1, 2]


def test_a_map_without_a_result_and_two_devices(double):
    with pytest.raises(TypeError, match="step 1 returned None"):
        scan(lambda s, a: None, 0.0, steps=1)
    with pytest.raises(TypeError, match="list of functions, got tuple"):
        scan((abs, abs), 0.0)
    with pytest.raises(TypeError, match="the field returned None"):
        rk4(lambda s, a: None, 0.1)(np.ones(2))
    with pytest.raises(DeviceError):
        scan(linear_system, asarray(np.zeros(2)), np.zeros((4, 3)), (asarray(A), asarray(B)))


# Gradients


def test_gradients_pass_through_scan():
    def cell(h, x, theta):
        W, R = theta
        return tanh(x @ W + h @ R)

    def run(h, x, W, R):
        return scan(cell, h, x, (W, R))
    check = gradcheck(run, normal(2, 3), normal(5, 2, 4), normal(4, 3), normal(3, 3))
    assert check.worst < 1e-8 and len(check.errors) == 4


def test_gradients_of_the_systems():
    assert gradcheck(lambda s, a, p: scan(rk4(pendulum, 0.1), s, a, p),
                     normal(3, 2), normal(4, 3, 1), np.array([9.0, 0.2, 1.1])).worst < 1e-7
    assert gradcheck(lambda s, p: scan(rk4(lorenz, 0.02, substeps=2), s, params=p, steps=4),
                     normal(2, 3), np.array([10.0, 28.0, 2.7])).worst < 1e-7
    assert gradcheck(lambda s, a, A, B: scan(linear_system, s, a, (A, B)),
                     normal(2), normal(4, 3), A, B).worst < 1e-8  # a single row, too
    assert gradcheck(iir, normal(6, 2), np.array([0.5, -0.9]), normal(2)).worst < 1e-8
    assert gradcheck(lambda A, B, C: impulse_response(A, B, C, steps=5),
                     A, B, normal(2, 1)).worst < 1e-8


def test_lists_of_tensors_keep_their_gradient():
    w = Tensor(np.array(0.5))
    scan(lambda s, a, w: [w * s[1], s[0]], np.ones(2), params=w, steps=3)[-1].sum().backward()
    assert w.grad == pytest.approx(3 * 0 + 2 * 0.5 + 1)  # w**2 ... from s = (w**2, w)


# Linear systems


@given(T=st.integers(1, 30), seed=st.integers(0, 99))
@hypothesis_settings(max_examples=25, deadline=None)
def test_superposition_of_impulse_responses(T, seed):
    actions, C = normal(T, 3, seed=seed), normal(2, 4, seed=seed)
    states = scan(linear_system, np.zeros(2), actions, (A, B))
    response = impulse_response(A, B, C, steps=T)
    assert response.shape == (T, 3, 4)
    summed = sum(actions[T - 1 - k] @ response[k] for k in range(T))
    np.testing.assert_allclose(states[-1] @ C, summed, atol=1e-11)


@given(w=st.floats(-1.2, 1.2), h0=st.floats(-3, 3), T=st.integers(0, 40))
@hypothesis_settings(max_examples=40, deadline=None)
def test_the_filter_in_closed_form(w, h0, T):
    x = normal(T, 2)
    h = iir(x, w, h0)
    assert h.shape == x.shape
    for t in range(T):
        closed = w ** (t + 1) * h0 + sum(w**k * x[t - k] for k in range(t + 1))
        np.testing.assert_allclose(h[t], closed, atol=1e-9)


def test_the_filter_of_scipy_and_its_shapes(backend):
    x = asarray(normal(50, 3))
    per_channel = to_host(iir(x, asarray([0.5, 0.9, -0.7], "float64")))
    for i, w in enumerate((0.5, 0.9, -0.7)):
        np.testing.assert_allclose(per_channel[:, i], to_host(iir(x[:, i], w)), rtol=1e-12)
    with pytest.raises(ValueError, match="does not broadcast"):
        iir(x, asarray(np.zeros(4)))
    with pytest.raises(ValueError, match="must be"):
        iir(3.0, 0.5)
    assert to_host(iir([1.0, 0.0, 0.0], 0.5)).tolist() == [1.0, 0.5, 0.25]
    signal = pytest.importorskip("scipy.signal")
    np.testing.assert_allclose(per_channel[:, 1], signal.lfilter([1], [1, -0.9], to_host(x)[:, 1]))


def test_float32_stays_float32():
    x = normal(5).astype("float32")
    assert iir(x, 0.5).dtype == "float32"
    assert scan(rk4(lorenz, 0.01), np.ones(3, "float32"), steps=2).dtype == "float32"
    assert scan(rk4(pendulum, 0.01), np.ones(2, "float32"), x).dtype == "float32"


def test_spectral_radius():
    turn = 0.9 * np.array([[np.cos(1), np.sin(1)], [-np.sin(1), np.cos(1)]])
    assert spectral_radius(turn) == pytest.approx(0.9)
    np.testing.assert_allclose(abs(np.angle(eigenvalues(turn))), 1.0)
    assert eigenvalues(np.diag([1.0, -3.0, 2.0])).tolist() == [-3, 2, 1]
    for wrong in (np.zeros((2, 3)), np.zeros(3), np.zeros((0, 0)), np.full((2, 2), np.nan), "abc"):
        with pytest.raises(ValueError, match="A "):
            spectral_radius(wrong)
    assert spectral_radius(np.diag([3j, 2.0])) == 3.0  # the imaginary part is not dropped


@pytest.mark.parametrize("call, said", [
    (lambda: linear_system(np.ones(3), np.ones(3), (A, B)), "a state of shape"),
    (lambda: linear_system(np.ones(2), np.ones(2), (A, B)), "an action of shape"),
    (lambda: linear_system(np.ones(2), np.float64(1), (A, B)), "an action of shape"),
    (lambda: linear_system(np.ones(2), np.ones(3), (A,)), "give \\(A, B\\)"),
    (lambda: linear_system(np.ones(2), None, A), "must be a tuple"),
    (lambda: impulse_response(A, B, steps=0), "steps must be"),
    (lambda: impulse_response(B, B, steps=2), "A must be"),
    (lambda: impulse_response(A, B.T, steps=2), "A must be"),
    (lambda: impulse_response(A, B, np.ones((3, 1)), steps=2), r"C \(S, O\), got .*\(3, 1\)"),
    (lambda: impulse_response(A, B[0], steps=2), r"B \(I, S\)"),
    (lambda: impulse_response(A.tolist(), B, steps=2), "A must be an array"),
    (lambda: impulse_response(A, B, steps=2.5), "steps must be an integer of 1 or more"),
    (lambda: linear_system(np.ones(2), None, (A.tolist(),)), "does not fit A, list"),
    (lambda: linear_system(np.ones(2), None, (np.ones((2, 3)),)), r"A, \(2, 3\)"),
    (lambda: linear_system(np.ones(2), np.ones(3), (A, np.ones((3, 4)))), r"B, \(3, 4\)"),
    (lambda: linear_system(np.ones((4, 2)), np.ones((5, 3)), (A, B)), "4 rows of states"),
    (lambda: linear_system(1.0, None, (A,)), "a state of shape"),
], ids=range(17))
def test_linear_systems_refuse(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# Differential equations


def test_rk4_has_order_four_and_scipy_agrees():
    s0 = np.array([1.0, 1.0, 1.0])
    ends = {n: scan(rk4(lorenz, 0.5 / n), s0, steps=n)[-1] for n in (50, 100, 200, 3200)}
    errors = [np.abs(ends[n] - ends[3200]).max() for n in (50, 100, 200)]
    assert 12 < errors[0] / errors[1] < 20 and 12 < errors[1] / errors[2] < 20
    np.testing.assert_allclose(scan(rk4(lorenz, 0.5, substeps=100), s0, steps=1)[-1], ends[100],
                               rtol=1e-12)
    integrate = pytest.importorskip("scipy.integrate")
    exact = integrate.solve_ivp(lambda t, s: lorenz(s), (0, 0.5), s0, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(ends[3200], exact.y[:, -1], rtol=1e-8)


def test_rk4_backwards_and_refusals():
    s0 = normal(4, 2)
    back = rk4(pendulum, -0.01)(rk4(pendulum, 0.01)(s0, 1.0), 1.0)
    np.testing.assert_allclose(back, s0, atol=1e-9)
    for dt in (0.0, np.nan, np.inf, "0.1", None):
        with pytest.raises(ValueError, match="dt must be"):
            rk4(pendulum, dt)
    for substeps in (0, 1.5, True):
        with pytest.raises(ValueError, match="substeps must be"):
            rk4(pendulum, 0.1, substeps)
    with pytest.raises(TypeError, match="field must be a function, got float 0.1"):
        rk4(0.1, pendulum)


@pytest.mark.parametrize("returned", [1.0, np.ones(1), np.ones((1, 3)), (np.ones(3),)],
                         ids=range(4))
def test_a_velocity_that_would_be_broadcast_is_refused(returned):
    "A field with too few entries must not move all of them alike."
    with pytest.raises(ValueError, match=r"the field returned .* state of shape \(3,\)"):
        rk4(lambda s, a: returned, 0.1)(np.ones(3))


def test_a_field_may_return_a_list():
    step = rk4(lambda s, a: [s[1], -s[0]], 0.1)
    np.testing.assert_allclose(step([1.0, 0.0]), [np.cos(0.1), -np.sin(0.1)], atol=1e-7)


def test_lorenz_field(backend):
    s = asarray(normal(5, 3))
    x, y, z = to_host(s).T
    expected = np.stack([3 * (y - x), x * (4 - z) - y, x * y - 0.5 * z], 1)
    for theta in ((3.0, 4.0, 0.5), asarray(np.array([3.0, 4.0, 0.5]))):
        np.testing.assert_allclose(to_host(lorenz(s, None, theta)), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="Lorenz system is"):
        lorenz(asarray(np.ones(2)))


def test_energy_of_the_pendulum():
    "Its rate of change is torque times velocity minus friction, whatever the parameters."
    theta, s, a = (7.0, 0.4, 1.7), normal(6, 2), normal(6)
    h, field = 1e-6, pendulum(s, a, theta)
    rate = (pendulum_energy(s + h * field, theta) - pendulum_energy(s - h * field, theta)) / (2 * h)
    np.testing.assert_allclose(rate, a * s[:, 1] - theta[1] / theta[2] * s[:, 1] ** 2, atol=1e-8)
    np.testing.assert_array_equal(pendulum(s, a[:, None], theta), field)
    np.testing.assert_array_equal(pendulum(s[0], a[0], theta), field[0])
    np.testing.assert_array_equal(pendulum(s[0], a[:1], theta), field[0])
    for wrong in (np.ones((6, 3)), np.float64(1.0)):
        with pytest.raises(ValueError, match="pendulum is"):
            pendulum(wrong)
    with pytest.raises(ValueError, match="a torque"):
        pendulum(s, np.ones((6, 2)))
    with pytest.raises(ValueError, match=r"torque of shape \(3,\) does not fit states"):
        pendulum(s, np.ones(3))
    for three in ((9.81, 0.0), 9.81, None, (1, 2, 3, 4), np.ones(2), np.float64(1.0)):
        for f, *args in ((pendulum, s, None), (pendulum_energy, s), (lorenz, np.ones(3), None)):
            with pytest.raises(ValueError, match="theta must be three numbers"):
                f(*args, three)


def test_small_swings_have_the_known_period():
    path = scan(rk4(pendulum, 0.01), np.array([1e-4, 0.0]), params=(4 * np.pi**2, 0.0, 1.0),
                steps=100)
    np.testing.assert_allclose(path[-1], path[0], atol=1e-9)


# Fixed points


def test_jacobian_in_row_form(backend):
    J = jacobian(linear_system, asarray(normal(2)), asarray(np.ones(3)), (asarray(A), asarray(B)))
    assert is_device(J) == (backend != "numpy")
    np.testing.assert_allclose(to_host(J), A, atol=1e-9)
    x, y, z = s = normal(3)
    expected = np.array([[-10, 28 - z, y], [10, -1, x], [0, -x, -8 / 3]])
    np.testing.assert_allclose(to_host(jacobian(lorenz, asarray(s))), expected, atol=1e-8)
    with pytest.raises(ValueError, match="NaN"):
        jacobian(lorenz, asarray(np.array([1.0, np.nan, 0.0])))
    with pytest.raises(ValueError, match=r"s must be \(S,\)"):
        jacobian(lorenz, asarray(np.ones((2, 3))))
    with pytest.raises(ValueError, match="one row of numbers"):
        jacobian(lambda s, a: s.sum(), asarray(np.ones(2)))
    for step in (0, -1e-5, np.nan):
        with pytest.raises(ValueError, match="step must be above 0"):
            jacobian(lorenz, asarray(np.ones(3)), step=step)


def test_lists_keep_their_double_precision():
    assert jacobian(lambda s, a: s * s, [0.1])[0, 0] == pytest.approx(0.2, abs=1e-12)


def test_fixed_points(backend):
    c = np.sqrt(8 / 3 * 27)
    starts = asarray(np.array([[1.0, 1, 1], [9, 8, 26], [8, 8, 27], [-8, -9, 25]]))
    found = to_host(fixed_points(lorenz, starts, flow=True))
    np.testing.assert_allclose(found, [[0, 0, 0], [c, c, 27], [-c, -c, 27]], atol=1e-8)
    mapped = fixed_points(rk4(lorenz, 0.01), starts[1:2])
    np.testing.assert_allclose(to_host(mapped), [[c, c, 27]], atol=1e-7)
    theta = asarray(A), asarray(B)
    at = fixed_points(linear_system, zeros(2), asarray(np.ones(3)), theta)
    expected = np.ones(3) @ B @ np.linalg.inv(np.eye(2) - A)
    np.testing.assert_allclose(to_host(at)[0], expected, atol=1e-8)
    assert fixed_points(lambda s, a: s + 1, starts).shape == (0, 3)
    assert fixed_points(lambda s, a: s * s + 1, starts[:, :1]).shape == (0, 1)
    for flow in (False, True):
        with pytest.raises(ValueError, match=r"keep the shape of the state, but \(3,\) became"):
            fixed_points(lambda s, a: s[:1], starts, flow=flow)
    with pytest.raises(ValueError, match="iterations must be"):
        fixed_points(lorenz, starts, iterations=0)
    with pytest.raises(ValueError, match="tolerance must be"):
        fixed_points(lorenz, starts, tolerance=0.0)


def test_fixed_points_of_systems_that_the_chapter_does_not_use():
    def van_der_pol(s, a):
        return np.stack([s[..., 1], (1 - s[..., 0] ** 2) * s[..., 1] - s[..., 0]], -1)

    def henon(s, a):
        return np.stack([1 - 1.4 * s[..., 0] ** 2 + s[..., 1], 0.3 * s[..., 0]], -1)

    at = fixed_points(van_der_pol, normal(10, 2), flow=True)
    np.testing.assert_allclose(at, [[0, 0]], atol=1e-9)
    np.testing.assert_allclose(eigenvalues(jacobian(van_der_pol, at[0])), np.roots([1, -1, 1]),
                               atol=1e-8)
    at = fixed_points(henon, normal(30, 2))
    x = np.roots([1.4, 0.7, -1])
    np.testing.assert_allclose(np.sort(at[:, 0]), np.sort(x), atol=1e-9)
    for p in at:
        np.testing.assert_allclose(sorted(eigenvalues(jacobian(henon, p))),
                                   sorted(np.roots([1, 2.8 * p[0], -0.3])), atol=1e-7)
    for centre in (0.0, 1.0):  # a flat one, where Newton's steps are short
        at = fixed_points(lambda s, a, c: -(s - c) ** 3, np.array([[3.0], [-2.0]]), params=centre,
                          flow=True)
        np.testing.assert_allclose(at, [[centre]], atol=1e-6)
    at = fixed_points(lambda s, a, r: r * s * (1 - s), np.array([[0.1], [0.6]]), params=3.2)
    np.testing.assert_allclose(at, [[0.0], [1 - 1 / 3.2]], atol=1e-9)


def test_feedback_moves_the_eigenvalues():
    gain = np.array([[2.0], [0.5]])
    closed = closed_loop(linear_system, lambda s: -(s @ gain))
    one = np.array([[1.0, 0.3]])
    np.testing.assert_allclose(jacobian(closed, np.zeros(2), params=(A, one)), A - gain @ one,
                               atol=1e-9)
    np.testing.assert_allclose(closed(np.ones(2), np.ones(1), (A, one)),
                               np.ones(2) @ A + (1 - 2.5) * one[0])


# Exponents


def test_known_exponents(backend):
    starts = asarray(np.random.default_rng(0).uniform(0.1, 0.9, (40, 1)))
    value, error = lyapunov_exponent(lambda s, a: 4 * s * (1 - s), starts, 1000)
    assert abs(value - np.log(2)) < max(5 * error, 0.002) and 0 < error < 0.01
    M = asarray(np.array([[1.3, 0.4], [0.0, 0.6]]))
    found = lyapunov_spectrum(linear_system, asarray(normal(5, 2)), 400, params=(M,), dt=0.5)
    np.testing.assert_allclose(found.values, np.log([1.3, 0.6]) / 0.5, atol=0.02)
    assert found.running.shape == (400, 2) and found.errors.shape == (2,)


def test_the_henon_map_and_the_sum_of_exponents():
    def henon(s, a):
        return np.stack([1 - 1.4 * s[..., 0] ** 2 + s[..., 1], 0.3 * s[..., 0]], -1)

    many = lyapunov_spectrum(henon, 0.1 * normal(30, 2), 1500)
    assert abs(many.values[0] - 0.4192) < 5 * many.errors[0] < 0.02
    assert many.values.sum() == pytest.approx(np.log(0.3), abs=1e-5)
    one = lyapunov_spectrum(lambda s, a: [1 - 1.4 * s[0] ** 2 + s[1], 0.3 * s[0]],
                            np.array([0.1, 0.1]), 1500)  # a map of single states
    assert abs(one.values[0] - 0.4192) < 5 * one.errors[0]


def test_exponents_of_cycles_and_of_a_linear_system_of_three():
    "Stable cycles of the logistic map; the limit cycle of Van der Pol, whose sum is a mean trace."
    for r, known in ((2.5, np.log(0.5)), (3.2, np.log(0.16) / 2)):
        value, _ = lyapunov_exponent(lambda s, a, r: r * s * (1 - s), np.array([0.3]), 400,
                                     params=r)
        assert value == pytest.approx(known, abs=1e-6)

    def van_der_pol(s, a):
        return np.stack([s[..., 1], (1 - s[..., 0] ** 2) * s[..., 1] - s[..., 0]], -1)

    found = lyapunov_spectrum(rk4(van_der_pol, 0.05), normal(4, 2), 2000, dt=0.05, skip=600)
    np.testing.assert_allclose(found.values, [0.0, -1.0587], atol=0.02)
    M = np.array([[0.9, 0.4, 0.0], [0.0, 0.7, 0.2], [0.0, 0.0, 0.5]])
    found = lyapunov_spectrum(linear_system, normal(3, 3), 600, params=(M,))
    np.testing.assert_allclose(found.values, np.log([0.9, 0.7, 0.5]), atol=1e-3)


def test_lorenz_exponent():
    starts = np.array([0.0, 0, 25]) + 5 * normal(150, 3)
    found = lyapunov_spectrum(rk4(lorenz, 0.08, substeps=8), starts, 400, dt=0.08, skip=150)
    assert abs(found.values[0] - 0.9056) < 4 * found.errors[0] < 0.06
    assert abs(found.values[1]) < 0.03
    assert found.values.sum() == pytest.approx(-41 / 3, abs=1e-3)


def test_driven_exponents_and_refusals():
    factors = np.exp(normal(300))
    value, _ = lyapunov_exponent(lambda s, a: a * s, np.ones(1), 300, skip=0, actions=factors)
    assert value == pytest.approx(normal(300).mean(), abs=1e-6)
    with pytest.raises(ValueError, match="not finite any more at step"):
        lyapunov_exponent(lambda s, a: s * s, np.array([[1.5]]), 200)
    with pytest.raises(ValueError, match="NaN"):
        lyapunov_exponent(lambda s, a: s, np.array([np.nan]), 10)
    for bad in ({"steps": 0}, {"steps": 5, "skip": -1}, {"steps": 5, "dt": 0.0}):
        with pytest.raises(ValueError, match="must be|are needed"):
            lyapunov_exponent(lambda s, a: s, np.ones(2), **bad)
    with pytest.raises(ValueError, match="count <= S"):
        lyapunov_spectrum(lambda s, a: s, np.ones(2), 5, count=3)
    with pytest.raises(ValueError, match="count must be an integer of 1 or more"):
        lyapunov_spectrum(lambda s, a: s, np.ones(2), 5, count=1.5)
    with pytest.raises(ValueError, match="blocks must be"):
        lyapunov_exponent(lambda s, a: s, np.ones(2), 5, blocks=0)
    with pytest.raises(ValueError, match=r"shape of rows .* one start"):
        lyapunov_exponent(lambda s, a: np.stack([s[0], s[1]]), np.ones((5, 2)), 5)
    with pytest.raises(TypeError, match="the map returned None"):
        lyapunov_exponent(lambda s, a: None, np.ones((5, 2)), 5)
    with pytest.raises(TypeError, match=r"must take \(s, a\).*takes \(s, a, theta\)"):
        lyapunov_exponent(linear_system, np.ones(2), 5)
    with pytest.raises(ValueError, match="300 actions|steps"):
        lyapunov_exponent(lambda s, a: a * s, np.ones(1), 200, skip=0, actions=factors)


# Recovery


@given(S=st.integers(1, 4), inputs=st.integers(0, 3), B=st.integers(1, 3), seed=st.integers(0, 99))
@hypothesis_settings(max_examples=25, deadline=None)
def test_a_hidden_linear_system_is_found(S, inputs, B, seed):
    "Without noise exactly; the answer is that of the normal equations."
    A = normal(S, S, seed=seed)
    A *= 0.9 / max(1, np.abs(np.linalg.eigvals(A)).max())  # states that grow leave nothing to fit
    truth = (A, normal(max(inputs, 1), S, seed=seed + 1))
    actions = normal(30, B, inputs, seed=seed) if inputs else None
    theta = truth if inputs else truth[:1]
    noise = normal(31, B, S, seed=seed + 2)
    states = [noise[0]]
    for t in range(30):
        a = None if actions is None else actions[t]
        states.append(linear_system(states[-1], a, theta) + noise[t + 1])
    states, start = np.stack(states), tuple(np.zeros_like(p) for p in theta)
    found = recover(linear_system, states, actions, start)
    rows = states[:-1].reshape(-1, S)
    rows = rows if actions is None else np.concatenate([rows, actions.reshape(-1, inputs)], 1)
    target = states[1:].reshape(-1, S)
    expected = np.linalg.lstsq(rows, target, rcond=None)[0]
    np.testing.assert_allclose(np.concatenate(found.theta), expected, atol=1e-7)
    left = ((target - rows @ expected) ** 2).sum(0) / (len(rows) - expected.size / S)
    known = np.sqrt(np.diag(np.linalg.inv(rows.T @ rows))[:, None] * left)
    np.testing.assert_allclose(np.concatenate(found.errors), known, rtol=1e-5)
    np.testing.assert_allclose(found.noise, np.sqrt(left), rtol=1e-6)
    assert found.converged


def test_lorenz_and_pendulum_are_found(backend):
    states = scan(rk4(lorenz, 0.01), asarray(np.array([1.0, 2.0, 20.0])), steps=200)
    found = recover(rk4(lorenz, 0.01), states, theta=(1.0, 1.0, 1.0))
    assert found.converged and all(isinstance(p, float) for p in found.theta)
    np.testing.assert_allclose(found.theta, [10, 28, 8 / 3], rtol=1e-8)
    torque, true = asarray(normal(100, 1)), asarray(np.array([9.81, 0.3, 2.0]))
    states = scan(rk4(pendulum, 0.05), asarray(np.array([0.5, 0.0])), torque, true)
    found = recover(rk4(pendulum, 0.05), states, torque, asarray(np.array([5.0, 0.0, 1.0])))
    assert is_device(found.theta) == (backend != "numpy")
    np.testing.assert_allclose(to_host(found.theta), [9.81, 0.3, 2.0], rtol=1e-8)


def test_a_hidden_nonlinear_system_with_noise_is_found():
    "Van der Pol with an unknown force: the answer of scipy's solver, within its error bars."
    def move(s, a, theta):
        def field(s, a, theta):
            push = theta[0] * (1 - s[..., 0] ** 2) * s[..., 1] - theta[1] * s[..., 0]
            return np.stack([s[..., 1], push + theta[2] * a], -1)
        return rk4(field, 0.1)(s, a, theta)

    true, torque, noise = (1.3, 0.8, 0.5), normal(400), 0.01 * normal(400, 2)
    states = [np.array([0.5, 0.0])]
    for a, e in zip(torque, noise, strict=True):
        states.append(move(states[-1], a, true) + e)
    states = np.stack(states)
    found = recover(move, states, torque, (0.0, 0.0, 0.0))
    assert found.converged
    assert (np.abs(np.subtract(found.theta, true)) < 4 * np.array(found.errors)).all()
    np.testing.assert_allclose(found.noise, 0.01, rtol=0.15)
    optimize = pytest.importorskip("scipy.optimize")
    peer = optimize.least_squares(
        lambda p: (states[1:] - move(states[:-1], torque, tuple(p))).ravel(), np.zeros(3))
    np.testing.assert_allclose(found.theta, peer.x, atol=1e-6)


def test_errors_told_are_errors_made():
    "Over many runs, the error divided by its standard error has a standard deviation near 1."
    z = []
    for seed in range(60):
        noise = 0.3 * normal(201, 2, seed=seed) * [1.0, 5.0]  # unequal noise
        states = scan(lambda s, a: s @ A + a, noise[0], noise[1:])
        found = recover(linear_system, states, theta=(np.zeros((2, 2)),))
        z.append((found.theta[0] - A) / found.errors[0])
    assert 0.85 < np.std(z) < 1.15


def test_parameters_of_very_different_size():
    x = normal(40, 1)
    states = np.stack([x, 2e9 * 1e-9 * x + 3e-6 * 1e6 * x**2 + 0.1 * normal(40, 1, seed=1)])
    found = recover(lambda s, a, p: p[0] * 1e-9 * s + p[1] * 1e6 * s**2, states, theta=(0.0, 0.0))
    D = np.concatenate([x, x**2], 1)
    known = found.noise[0] * np.sqrt(np.diag(np.linalg.inv(D.T @ D))) * [1e9, 1e-6]
    np.testing.assert_allclose(found.errors, known, rtol=1e-6)
    np.testing.assert_allclose(found.theta, [2e9, 3e-6], rtol=0.1)


def test_what_the_data_do_not_determine():
    still = np.zeros((50, 2))
    with pytest.raises(NotIdentifiable, match="0 of 3"):
        recover(rk4(pendulum, 0.1), still, theta=(9.0, 0.1, 1.0))
    swings = scan(rk4(pendulum, 0.1), np.array([1.0, 0.0]), params=(9.81, 0.2, 1.0), steps=60)
    with pytest.raises(NotIdentifiable, match=r"2 of 3 parameters: numbers \[2\]"):
        recover(rk4(pendulum, 0.1), swings, np.zeros(60), (9.0, 0.1, 1.0))
    with pytest.raises(NotIdentifiable, match=r"numbers \[0, 1\]"):
        recover(lambda s, a, p: p[0] * p[1] * s, normal(9, 2), theta=(1.0, 2.0))
    with pytest.raises(NotIdentifiable, match="cannot determine"):
        recover(linear_system, normal(2, 2), theta=(np.zeros((2, 2)),))


@pytest.mark.parametrize("options, said", [
    ({"states": np.zeros((1, 2))}, "no step"),
    ({"states": np.zeros(5)}, "states must be"),
    ({"states": np.full((5, 2), np.nan)}, "states holds NaN"),
    ({"states": np.zeros((0, 2))}, "not empty"),
    ({"actions": np.zeros((5, 3))}, "need actions of shape"),
    ({"actions": np.full((8, 3), np.inf)}, "actions holds NaN"),
    ({"theta": None}, "theta, where"),
    ({"theta": {"A": A}}, "got dict"),
    ({"theta": (np.full((2, 2), np.nan), B)}, "theta"),
    ({"f": lambda s, a, p: s[:, :1]}, r"rows \(N, S\) to rows"),
    ({"f": lambda s, a, p: s * np.inf}, "start elsewhere"),
    ({"theta": [np.zeros((2, 2)), B]}, "got list"),
    ({"theta": ((np.zeros((2, 2)), B), 1.0)}, "got tuple"),
    ({"theta": "abc"}, "got str"),
    ({"theta": 1j}, "got complex"),
    ({"theta": np.ones(2) * 1j}, "real numbers"),
    ({"iterations": 0}, "iterations must be"),
], ids=range(17))
def test_recover_refuses(options, said):
    given = {"f": linear_system, "states": normal(9, 2), "actions": normal(8, 3),
             "theta": (np.zeros((2, 2)), np.zeros((3, 2)))} | options
    with pytest.raises(ValueError, match=said):
        recover(**given)


# The picture


def test_phase_portrait(backend):
    starts = asarray(np.array([[1.0, 0.0], [0.0, 2.0]]))
    rest = fixed_points(linear_system, starts, params=(asarray(A),))
    picture = phase_portrait(linear_system, starts, 12, params=(asarray(A),), rest=rest)
    end = np.linalg.matrix_power(A, 12)
    assert "2 paths of 12 steps" in picture.alt and "Fixed points at (0, 0)" in picture.alt
    assert f"({end[0, 0]:.3g}, {end[0, 1]:.3g})" in picture.alt
    assert picture.svg() == picture.svg() and "NaN" not in picture.svg()
    with pytest.raises(ValueError, match="not finite any more at step"):
        phase_portrait(lambda s, a: s / 0.0, starts, 3)
    for options, said in [({"steps": 0}, "steps must be"), ({"steps": 2.5}, "steps must be"),
                          ({"show": (0, 2)}, "variables 0 to 1"), ({"show": (0,)}, "show must be"),
                          ({"show": (0, -1)}, "show must be|entry of show"),
                          ({"starts": asarray(np.ones((3, 1)))}, "variables 0 to 0"),
                          ({"rest": np.zeros(2)}, "rest must be"),
                          ({"rest": np.zeros((1, 3))}, r"rest must be \(K, 2\)")]:
        with pytest.raises(ValueError, match=said):
            phase_portrait(**{"f": lambda s, a: s / 2, "starts": starts, "steps": 3} | options)
    assert "Fixed points at (0, 0)" in phase_portrait(lambda s, a: s / 2, starts, 3,
                                                      rest=[[0.0, 0.0]]).alt
