"""Networks of columns, against an independent oracle in plain Python numbers."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import scipy.sparse
import xarray as xr
from network_oracle import (
    FORWARD,
    FORWARD_MM,
    GAP,
    NODES,
    RELAY,
    example,
    example_network,
    solve,
)

from nmm_infer.errors import InputError
from nmm_infer.models import JANSEN_RIT
from nmm_infer.simulation import Clock, Connection, Network, integrate

CLOCK = Clock(0.0, 0.08, step=1e-3, every=1, settle=0.01)


@pytest.mark.parametrize(
    ("scheme", "update", "own_speeds"),
    [
        ("heun", "stage", False),
        ("heun", "stage", True),
        ("heun", "step", False),
        ("euler", "stage", False),
        ("euler", "step", True),
    ],
)
def test_every_path_is_that_of_the_oracle(scheme, update, own_speeds):
    how = {"scheme": scheme, "coupling_update": update}
    arguments = example([4, 9, 31], CLOCK, own_speeds=own_speeds, **how)
    assert len(set(np.atleast_1d(arguments["speed"]))) == (3 if own_speeds else 1)
    got = integrate(JANSEN_RIT, CLOCK, dtype="float64", **arguments)
    assert not got.diverged.any()
    for i in range(3):
        expected = solve(CLOCK, i, **arguments)
        for name, signal in expected.items():
            signal = signal[:, CLOCK.settle_steps :]
            assert np.ptp(signal, axis=1).min() > (1.0 if name == "potential" else 0.05)
            np.testing.assert_allclose(got.outputs[name][i], signal, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("update", ["stage", "step"])
def test_every_path_of_runge_kutta_is_that_of_the_oracle(update):
    network = example_network(delays=False)
    how = {"noise": {}, "scheme": "rk4", "coupling_update": update}
    arguments = example([4, 9, 31], CLOCK, network=network, **how)
    got = integrate(JANSEN_RIT, CLOCK, dtype="float64", **arguments)
    for i in range(3):
        expected = solve(CLOCK, i, **arguments)
        for name, signal in expected.items():
            signal = signal[:, CLOCK.settle_steps :]
            np.testing.assert_allclose(got.outputs[name][i], signal, rtol=1e-10, atol=1e-10)


def test_a_node_without_weights_receives_nothing():
    arguments = example([4, 9, 31], CLOCK)
    base = integrate(JANSEN_RIT, CLOCK, dtype="float64", **arguments).outputs["potential"]
    strong = {name: 3 * g for name, g in arguments["strength"].items()}
    none = {name: 0 * g for name, g in arguments["strength"].items()}
    for strength in (strong, none):
        arguments["strength"] = strength
        other = integrate(JANSEN_RIT, CLOCK, dtype="float64", **arguments).outputs["potential"]
        np.testing.assert_array_equal(base[:, 3], other[:, 3])
        assert (np.abs(base - other)[:, :3].max(axis=(0, 2)) > 0.1).all()


def labelled(matrix):
    return xr.DataArray(
        matrix, dims=("target", "source"), coords={"target": list(NODES), "source": list(NODES)}
    )


def doubled(matrix):
    """A sparse matrix whose entries are there in halves, and a zero that is there."""
    row, column = np.nonzero(matrix)
    value = matrix[row, column]
    return scipy.sparse.coo_array(
        (
            np.concatenate([value / 2, value / 2, [0.0]]),
            (np.append(np.tile(row, 2), 3), np.append(np.tile(column, 2), 0)),
        ),
        matrix.shape,
    )


@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, doubled, labelled])
def test_sparse_and_labelled_matrices_are_as_good_as_plain_ones(kind):
    plain = example_network()
    others = [
        Connection(kind(np.asarray(c.weights)), c.lengths, c.source, c.target, c.form, c.name)
        for c in plain.connections
    ]
    runs = [
        integrate(JANSEN_RIT, CLOCK, dtype="float64", **example([4, 9, 31], CLOCK, network=n))
        for n in (plain, Network(others, nodes=NODES))
    ]
    for name in ("potential", "rate"):
        np.testing.assert_array_equal(runs[0].outputs[name], runs[1].outputs[name])


def test_a_run_changes_neither_its_arguments_nor_the_next_run(random_state_guard):
    arguments = example([4, 9, 31], CLOCK)
    arrays = [arguments["initial"], arguments["index"], FORWARD, FORWARD_MM, GAP, RELAY]
    arrays += [
        v for name in ("constants", "drive", "noise", "strength") for v in arguments[name].values()
    ]
    before = [a.copy() for a in arrays]
    first = integrate(JANSEN_RIT, CLOCK, dtype="float64", **arguments)
    other = {
        **arguments,
        "strength": 0.0,
        "noise": {t: 9.0 + 0 * v for t, v in arguments["noise"].items()},
    }
    between = integrate(JANSEN_RIT, CLOCK, dtype="float64", **other)
    again = integrate(JANSEN_RIT, CLOCK, dtype="float64", **arguments)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(first.outputs["rate"], again.outputs["rate"])
    assert np.abs(first.outputs["potential"] - between.outputs["potential"]).max() > 1


# --- Delays and their message


def small(lengths, **given):
    return Network([Connection(np.ones((3, 3)), lengths, **given)])


def test_delays_are_whole_steps():
    lengths = np.array([[0.0, 1.0, 4.0], [9.0, 13.0, 0.4], [26.0, 60.0, 1e-3]])
    network = small(lengths)
    exact = lengths.ravel() / 5.0  # steps of 1 ms at 5 m/s
    np.testing.assert_array_equal(exact[3], 1.8)
    for least, short in [(1, 1), (0, 0)]:
        (steps,) = network.steps(5.0, 1e-3, least)
        np.testing.assert_array_equal(steps, [0, short, 1, 2, 3, short, 5, 12, short])
    (steps,) = network.steps(np.array([5.0, 2.5]), 1e-3, 1)
    np.testing.assert_array_equal(steps[:, 1], [0, 1, 2, 4, 5, 1, 10, 24, 1])


@pytest.mark.parametrize(
    ("speed", "text"),
    [(5.0, "4 of 9 delays"), (np.array([5.0, 2.5, 2.5]), "10 of 27 delays")],
    ids=["shared", "own"],
)
def test_short_delays_are_told_once(speed, text, caplog):
    network = small(np.array([[0.0, 1.0, 4.0], [9.0, 13.0, 0.4], [26.0, 60.0, 1e-3]]))
    with caplog.at_level(logging.WARNING, logger="nmm_infer"):
        for _ in range(3):
            network.steps(speed, 1e-3, 1)
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith(text) and "one step of 1 ms" in message


def test_long_delays_are_not_worth_a_message(caplog):
    with caplog.at_level(logging.WARNING, logger="nmm_infer"):
        small(np.array([[0.0, 5.0, 9.0], [0, 0, 0], [90, 5, 7]])).steps(5.0, 1e-3, 1)
    assert not caplog.records


# --- Bad input


NAMED = ("a", "b", "c")


def named(values, rows=NAMED, columns=NAMED):
    return xr.DataArray(
        np.asarray(values, float),
        dims=("target", "source"),
        coords={"target": list(rows), "source": list(columns)},
    )


ONES = np.ones((3, 3))


@pytest.mark.parametrize(
    ("connections", "text"),
    [
        ([Connection(np.ones((3, 2)))], r"coupling: weights must be a square .*\(3, 2\)"),
        ([Connection(np.ones(3))], r"coupling: weights must be a square .*\(3,\)"),
        ([Connection(ONES, np.ones((3, 4)))], "coupling: lengths must be a square"),
        ([Connection(ONES, np.ones((4, 4)))], "coupling: lengths are for 4 nodes.* 3"),
        ([Connection([[0, np.nan], [1, 0]])], "coupling: weights must be finite"),
        ([Connection([[0, np.inf], [1, 0]], name="w")], "w: weights must be finite"),
        ([Connection(scipy.sparse.csr_array([[0, np.nan], [1, 0]]))], "weights must be finite"),
        ([Connection(ONES, ONES - 2)], "coupling: lengths must be finite and not negative"),
        ([Connection(ONES, ONES * np.nan)], "coupling: lengths must be finite"),
        ([Connection(ONES, ONES * np.inf)], "coupling: lengths must be finite"),
        ([Connection(named(ONES, columns=("a", "c", "b")))], "row 2 is 'b', column 2 is 'c'"),
        (
            [Connection(named(ONES), named(ONES, ("a", "b", "d"), ("a", "b", "d")))],
            "names of lengths do not match.*'d' stands where 'c'",
        ),
        (
            [
                Connection(named(ONES), name="one"),
                Connection(named(ONES, ("a", "x", "c"), ("a", "x", "c")), name="two"),
            ],
            "two: the names of weights do not match.*'x' stands where 'b'",
        ),
        ([Connection(ONES, name="one"), Connection(np.ones((2, 2)), name="two")], "two: .*2 nodes"),
        ([Connection(ONES), Connection(ONES)], "two connections have one name"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_impossible_networks_are_refused(connections, text):
    with pytest.raises(InputError, match=text):
        Network(connections)


def test_nodes_that_do_not_fit_the_weights_are_refused():
    with pytest.raises(InputError, match="3 nodes, but there are 2"):
        Network([Connection(ONES)], nodes=2)
    with pytest.raises(InputError, match="'a' stands where 'z'"):
        Network([Connection(named(ONES))], nodes=["z", "b", "c"])
    with pytest.raises(InputError, match="two nodes are called 'a'"):
        Network(nodes=["a", "b", "a"])
    with pytest.raises(InputError, match="needs a node"):
        Network(nodes=0)


@pytest.mark.parametrize(
    ("given", "changes", "text"),
    [
        ({"source": "potential"}, {}, "'rates' sums firing rates.*'potential' is in mV.*'linear'"),
        ({"source": "power"}, {}, "no output 'power'; there are potential, rate"),
        ({"target": "stellate"}, {}, "no target 'stellate'; there are pyramidal, interneurons"),
        ({"form": "cubic"}, {}, "no form 'cubic'; there are rates, linear, diffusive"),
        ({}, {"strength": {"couplng": 1.0}}, "no connection 'couplng'; there are coupling"),
        ({}, {"strength": {}}, "none is given for the connection 'coupling'"),
        ({}, {"strength": np.nan}, "strength of coupling: values must be finite"),
        ({}, {"strength": np.ones(3), "batch": 2}, r"strength of coupling: shape \(3,\)"),
        ({}, {"speed": 0.0}, "speed: .* positive"),
        ({}, {"speed": -1.0}, "speed: .* positive"),
        ({}, {"speed": np.nan}, "speed"),
        ({}, {"speed": np.inf}, "speed"),
        ({}, {"speed": [1.0, 0.0], "batch": 2}, "speed: .* positive"),
        ({}, {"speed": [1.0, 2.0, 3.0], "batch": 2}, r"speed: shape \(3,\)"),
        ({}, {"scheme": "rk4"}, "'rk4' is for runs without noise and delays; this has delays"),
    ],
    ids=str,
)
def test_connections_that_the_model_cannot_have_are_refused(given, changes, text):
    network = small(30 * ONES, **given)
    with pytest.raises(InputError, match=text):
        integrate(JANSEN_RIT, CLOCK, network=network, **changes)
