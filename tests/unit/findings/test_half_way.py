import numpy as np
import pytest
from numpy.typing import ArrayLike

from tasklens.findings.curves import Curves
from tasklens.findings.half_way import LEAST_RISE, half_way, timings
from tasklens.findings.measurement import Measurement

STEPS = (0, 10, 30, 100)
FLAT = [0.1, 0.1, 0.1, 0.1]


def curves(accuracy: ArrayLike, split: str = "val_subset", **layers: ArrayLike) -> Curves:
    """Return one run; of each layer one curve, or several, of which the first is as measured."""
    ari = {(split, layer, "raw"): np.atleast_2d(y) * 1.0 for layer, y in layers.items()}
    return Curves("r", 0, STEPS, ari, {split: np.atleast_2d(accuracy) * 1.0})


def by_name(got: list[Measurement]) -> dict[str, Measurement]:
    return {timing.what: timing for timing in got}


def test_half_way_of_curves_by_hand() -> None:
    y = np.array(
        [
            [0.0, 0.4, 0.6, 0.8],  # there at a checkpoint
            [0.0, 0.2, 0.8, 0.8],  # a third of the way from 10 to 30
            [0.2, 0.2, 0.2, 0.6],  # half of the way from 30 to 100
            [0.0, 0.9, 0.0, 0.8],  # the first time counts
            [0.3, 0.2, 0.4, 0.1],  # it ends lower
            [0.3, 0.3, 0.3, 0.3],
        ]
    )
    expected = [10, 10 + 20 / 3, 65, 10 * 0.4 / 0.9, np.nan, np.nan]
    np.testing.assert_allclose(half_way(STEPS, y), expected)


def test_each_layer_then_accuracy_then_how_much_later_than_accuracy() -> None:
    run = curves(
        [0.0, 0.0, 1.0, 1.0],  # half there at 20
        embed=FLAT,
        block1=[0.0, 0.0, 0.0, 0.8],  # at 65
        block2=[0.0, 0.4, 0.8, 0.8],  # at 10
        block10=[0.0, 0.0, 0.8, 0.8],  # at 20
        wte=[0.0, 0.8, 0.8, 0.8],
        ln_f=[0.0, 0.8, 0.8, 0.8],
    )
    got = timings([run])
    assert [timing.what for timing in got] == [
        *("block1", "block2", "block10", "accuracy"),
        *("block1 - accuracy", "block2 - accuracy", "block10 - accuracy"),
    ]
    assert [timing.value for timing in got] == pytest.approx([65, 10, 20, 20, 45, -10, 0])
    for timing in got:
        assert timing.each == (timing.value,)
        assert timing.split == "val_subset"
        assert np.isnan([timing.low, timing.high]).all(), "one number has no interval"


def test_layers_that_do_not_rise_have_no_half() -> None:
    assert LEAST_RISE == 0.2
    little, enough = [0.1, 0.1, 0.2, 0.29], [0.1, 0.1, 0.2, 0.31]
    run = curves([0, 0, 0, 1], embed=FLAT, block1=little, block2=enough, block3=[0.9, 0, 0, 0])
    assert [t.what for t in timings([run])] == ["block2", "accuracy", "block2 - accuracy"]
    # On average over runs.
    other = curves([0, 0, 0, 1], embed=FLAT, block1=[0.1, 0.1, 0.2, 0.8], block2=FLAT)
    got = by_name(timings([run, other]))
    assert {"block1", "block1 - accuracy"} < set(got)
    assert "block2" not in got


def test_what_never_rises_is_nan_and_so_is_what_is_compared_with_it() -> None:
    got = by_name(timings([curves([0.25] * 4, block1=[0, 0, 0.5, 1])]))
    assert got["block1"].value == 30
    for what in ("accuracy", "block1 - accuracy"):
        assert np.isnan(got[what].value)
        assert np.isnan(got[what].each).all()
    # One run of two in which the layer does not rise: the mean over runs is not that of the other.
    runs = [curves([0, 0, 1, 1], block1=[0, 0, 0.5, 1]), curves([0, 0, 1, 1], block1=FLAT)]
    both = by_name(timings(runs))
    np.testing.assert_equal(both["block1"].each, (30.0, np.nan))
    assert np.isnan(both["block1"].value)
    assert both["accuracy"].value == 20


def test_runs_give_a_mean_and_an_interval() -> None:
    first = curves([0, 0, 1, 1], block1=[0, 0.5, 1, 1])  # 20 and 10
    second = curves([0, 1, 1, 1], block1=[0, 0, 0, 1])  # 5 and 65
    # Of two runs a draw takes one: the interval reaches from one to the other.
    assert timings([first, second]) == [
        Measurement("block1", "val_subset", (10, 65), 37.5, 10, 65),
        Measurement("accuracy", "val_subset", (20, 5), 12.5, 5, 20),
        Measurement("block1 - accuracy", "val_subset", (-10, 60), 25, -10, 60),  # each run's own
    ]


def test_copies_of_one_run_give_an_interval_around_the_run_as_measured() -> None:
    ari = np.array([[0, 0.5, 1, 1]] + 20 * [[0, 1, 1, 1], [0, 0, 1, 1]])
    skill = [[0, 0.5, 1, 1]] * 41
    assert timings([curves(skill, block1=ari)]) == [
        Measurement("block1", "val_subset", (10,), 10, 5, 20),
        Measurement("accuracy", "val_subset", (10,), 10, 10, 10),
        Measurement("block1 - accuracy", "val_subset", (0,), 0, -5, 10),
    ]


def test_a_split_is_taken_alone_and_an_absent_one_gives_nothing() -> None:
    run = curves([0, 0, 1, 1], "train_subset", block1=[0, 0.5, 1, 1])
    assert timings([run]) == []
    got = timings([run], "train_subset")
    assert [(timing.what, timing.split, timing.value) for timing in got] == [
        ("block1", "train_subset", 10),
        ("accuracy", "train_subset", 20),
        ("block1 - accuracy", "train_subset", -10),
    ]
    assert timings([run, curves([0, 0, 1, 1], block1=FLAT)], "train_subset") == []
    # Nor does a single checkpoint.
    one = Curves("r", 0, (7,), {("val_subset", "block1", "raw"): np.array([[0.9]])})
    one.accuracy["val_subset"] = np.array([[1.0]])
    assert timings([one]) == []


def test_the_interval_contains_other_near_best_partitions() -> None:
    skill = [[0, 0, 1, 1]] * 3
    run = curves(skill, block1=[[0, 0.5, 1, 1]] * 3)  # at 10
    late = curves(skill, block1=[[0, 0, 0, 1]] * 3)  # at 65
    early = curves(skill, block1=[[0, 1, 1, 1]] * 3)  # at 5
    got = by_name(timings([run.with_choices(early, late)]))
    assert got["block1"] == Measurement("block1", "val_subset", (10,), 10, 5, 65)
    assert got["accuracy"] == Measurement("accuracy", "val_subset", (20,), 20, 20, 20)
    delay = got["block1 - accuracy"]
    assert (delay.value, delay.low, delay.high) == (-10, -15, 45)
