"""Compare each statistic with numbers that were computed by hand."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy.stats import spearmanr

from tasklens.core.seeds import stream
from tasklens.findings import statistics
from tasklens.findings.curves import Curves
from tasklens.findings.rules import RULES
from tasklens.findings.statistics import MissingError
from tasklens.models.lr_schedule import checkpoint_steps
from tasklens.scoring.bootstrap import Floats

TRAIN, PAIRS = "train_subset", "val_subset"
#: Nine checkpoints, evenly spaced.
STEPS = tuple(range(0, 81, 10))
Course: TypeAlias = ArrayLike
Number: TypeAlias = Callable[[Curves, str], Floats]


def planted(
    layers: Mapping[str, Course],
    steps: tuple[int, ...] = STEPS,
    *,
    unseen: Mapping[str, Course] | None = None,
) -> Curves:
    """Return curves by layer, on `train_subset` and, if given, on `val_subset`."""
    curves = Curves("mine", 0, steps)
    for split, values in ((TRAIN, layers), (PAIRS, unseen or {})):
        for layer, course in values.items():
            curves.ari[split, layer, "raw"] = np.atleast_2d(np.asarray(course, dtype=float))
    return curves


def one_block(course: Course, steps: tuple[int, ...] = STEPS, embed: float = 0.0) -> Curves:
    """Return the curves of a network with one block, which is the best layer and the upper half."""
    flat = np.full(np.shape(course), embed)
    return planted({"embed": flat, "block1": course}, steps)


def line(begin: float, end: float, steps: Sequence[int] = STEPS) -> Floats:
    return begin + (end - begin) * np.array(steps, dtype=float) / steps[-1]


# --- Evenly spaced checkpoints ---


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        (checkpoint_steps(1600, 200), tuple(range(0, 1601, 200))),
        (STEPS, STEPS),
        # three quarters of the spacing are far enough: 128 is too near to 0 for 200, 16 is not
        ((0, 1, 2, 4, 8, 16, 32, 64, 128, 200, 400, 600, 800), (0, 200, 400, 600, 800)),
        (checkpoint_steps(160, 20), (0, 16, *range(40, 161, 20))),
        # the last checkpoint stands for the one just before it
        (checkpoint_steps(1650, 200), (*range(0, 1401, 200), 1650)),
        ((0, 10, 20, 30, 37), (0, 10, 20, 37)),
        ((0, 10, 20, 30, 38), (0, 10, 20, 30, 38)),
        ((0, 10, 20, 30, 38, 40), (0, 10, 20, 30, 40)),
        # of powers of two alone half of training lies in gaps of up to a quarter of it
        ((0, 1, 2, 4, 8, 16), (0, 4, 8, 16)),
        ((0, 100), (0, 100)),
        ((0,), (0,)),
    ],
)
def test_evenly_spaced_checkpoints(steps: tuple[int, ...], kept: tuple[int, ...]) -> None:
    assert tuple(steps[i] for i in statistics.evenly(steps)) == kept


# --- Crossing ---


def test_a_level_is_reached_between_two_checkpoints_or_from_the_start_or_never() -> None:
    y = np.array([0.0, 0.2, 0.6, 0.4, 1.0])
    steps = (0, 10, 20, 40, 60)
    levels = np.array([0.1, 0.2, 0.3, 0.5, 0.8, 1.0])
    expected = [5.0, 10.0, 12.5, 17.5, 40 + 20 * 2 / 3, 60.0]
    got = statistics.crossing(steps, np.tile(y, (6, 1)), levels)
    np.testing.assert_allclose(got, expected, err_msg="the first time")

    y = np.array([[0.1, 0.4, 0.3], [0.1, 0.4, 0.3], [0.5, 0.0, 0.9], [0.2, 0.2, 0.2]])
    got = statistics.crossing((3, 5, 9), y, np.array([0.5, 0.05, 0.5, 0.2]))
    np.testing.assert_array_equal(got, [np.nan, 3, 3, 3])


# --- The best layer ---


def test_the_best_layer_is_chosen_on_the_training_subset() -> None:
    train = {"embed": line(0, 0.1), "block1": line(0, 0.7), "block2": line(0, 0.8)}
    unseen = {"embed": line(0, 0.1), "block1": line(0, 0.9), "block2": line(0, 0.6)}
    curves = planted(train, unseen=unseen)
    assert statistics.judged_layer(curves, complete=True) == ("block2", "raw")
    assert statistics.best_final(curves, TRAIN) == pytest.approx([0.8])
    assert statistics.best_final(curves, PAIRS) == pytest.approx([0.6]), "not the best there"
    assert statistics.generalisation_gap(curves, PAIRS) == pytest.approx([0.2])


def test_a_space_that_was_taken_at_the_end_alone_has_no_course() -> None:
    curves = planted({"embed": line(0, 0.1), "block1": line(0, 0.7), "block2": line(0, 0.8)})
    curves.ari[TRAIN, "block1", "tsne"] = np.array([[np.nan] * 8 + [0.9]])
    assert statistics.judged_layer(curves, complete=False) == ("block1", "tsne")
    assert statistics.judged_layer(curves, complete=True) == ("block2", "raw")
    assert statistics.best_final(curves, TRAIN) == pytest.approx([0.9])
    np.testing.assert_allclose(statistics.best_curve(curves, TRAIN), [line(0, 0.8)])
    curves.ari[TRAIN, "block1", "tsne"] = np.array([[0.0] * 8 + [0.9]])
    everywhere = statistics.judged_layer(curves, complete=True)
    assert everywhere == ("block1", "tsne"), "taken at every checkpoint"


def test_the_best_layer_is_that_of_the_sample_as_it_is() -> None:
    finals = {"embed": [[0.1], [0.1]], "block1": [[0.8], [0.2]], "block2": [[0.7], [0.9]]}
    curves = planted(finals, (8,))
    assert statistics.judged_layer(curves, complete=True) == ("block1", "raw")
    assert statistics.best_final(curves, TRAIN) == pytest.approx([0.8, 0.2])
    curves = planted({}, unseen={"embed": line(0, 1), "block1": line(0, 1)})
    with pytest.raises(MissingError, match=r"^run 'mine' has no scores of train_subset to choose"):
        statistics.best_final(curves, PAIRS)


@pytest.mark.parametrize(
    ("n", "upper"),
    [(1, (1,)), (2, (2,)), (3, (2, 3)), (4, (3, 4)), (6, (4, 5, 6)), (7, (4, 5, 6, 7))],
)
def test_the_upper_blocks_are_those_above_the_middle(n: int, upper: tuple[int, ...]) -> None:
    ends = {i: 2.0**i for i in range(1, n + 1)}
    curves = planted({"embed": line(0, 1), **{f"block{i}": line(0, ends[i]) for i in ends}})
    expected = line(0, float(np.mean([ends[i] for i in upper])))
    np.testing.assert_allclose(statistics.upper_curve(curves, TRAIN), [expected])
    assert statistics.upper_gain(curves, TRAIN) == pytest.approx(expected[-1])


# --- The course of one layer ---

EVEN = tuple(range(0, 1601, 100))
CROWDED = checkpoint_steps(1600, 200)
EARLY = {1: 0.3, 2: 0.2, 4: 0.25, 8: 0.15, 16: 0.2, 32: 0.1, 64: 0.3, 128: 0.05}
#: To 1 by step 40.
HALF = np.minimum(np.array(STEPS) / 40, 1.0)

#: Name, checkpoints, ARI and what the statistic comes to by hand.
BY_HAND: list[tuple[str, tuple[int, ...], Course, float]] = [
    # 95 % of its way at the seventh checkpoint; what it does after that does not count
    ("rank_with_step", STEPS, [0, 0.2, 0.1, 0.3, 0.5, 0.8, 0.98, 1, 0.9], 1 - 6 * 2 / (7 * 48)),
    # saturated at the second; half of the checkpoints count, with ranks 1, 4, 3, 2
    ("rank_with_step", STEPS, [0, 1, 0.9, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1], 1 - 6 * 8 / (4 * 15)),
    # the crowd of early checkpoints is ignored
    ("rank_with_step", CROWDED, [EARLY.get(step, step / 1600) for step in CROWDED], 1),
    ("rank_with_step", STEPS, line(1, 0), -1),
    ("rank_with_step", STEPS, line(0.3, 0.3), 0),
    # from 0.75 to 1 of its way: a quarter of it, over the mean 0.875 that counts as its height
    ("late_drift", EVEN, line(0, 1, EVEN), 0.25 / 0.875),
    ("late_drift", EVEN, line(0.2, 0.9, EVEN), 0.25 / 0.875),
    # the last quarter is steps 60, 70 and 80: the line through 1, 1 and 1.3 rises by 0.3
    ("late_drift", STEPS, [0, 0.5, 1, 1, 1, 1, 1, 1, 1.3], 0.3 / 1.1),
    ("late_drift", STEPS, [0, 0.5, 1, 1, 1, 1, 1, 1, 0.7], -0.3 / 0.9),
    ("late_drift", STEPS, [0, 0.5, 1, 1, 1, 1, 1, 1.3, 1], 0),
    ("late_drift", STEPS, line(0.5, 0.5), np.inf),
    ("late_drift", STEPS, line(0.5, 0.2), np.inf),
    # the rise is counted to the mean of the last quarter: (1.0 + 1.0 + 0.9) / 3 - 0.1
    ("largest_jump", STEPS, [0.1, 0.2, 0.5, 0.4, 0.7, 0.9, 1, 1, 0.9], 0.3 / (2.9 / 3 - 0.1)),
    ("largest_jump", STEPS, [0, 0.3, 0.6, 0.9, 0.3, 0.5, 0.6, 0.6, 0.6], 0.5),  # a fall is none
    ("largest_jump", STEPS, line(0.5, 0.4), np.inf),
    ("largest_jump", CROWDED, [0.0 if step < 4 else 1.0 for step in CROWDED], 1),
    # from a tenth to nine tenths: from step 4 to step 36 of 80
    ("rise_duration", STEPS, HALF, 32 / 80),
    ("rise_duration", STEPS, 0.3 + 0.5 * HALF, 32 / 80),
    ("rise_duration", STEPS, line(0, 1), 0.8 * 0.875),
    ("rise_duration", STEPS, [0, 0, 1, 1, 1, 1, 1, 1, 1], 8 / 80),  # within one gap of 10 steps
    ("rise_duration", STEPS, line(0.5, 0.2), 0),
    ("rise_duration", STEPS, line(0.5, 0.5), 0),
]


@pytest.mark.parametrize(("name", "steps", "course", "expected"), BY_HAND)
def test_statistics_of_a_course_by_hand(
    name: str, steps: tuple[int, ...], course: Course, expected: float
) -> None:
    got = getattr(statistics, name)(one_block(course, steps), TRAIN)
    assert got == pytest.approx([expected])


def test_rank_with_step_is_spearmans_of_each_copy() -> None:
    noise = stream(0, "copies").normal(size=(6, 9))
    noise[0] = np.arange(9)  # saturated at the last only
    got = statistics.rank_with_step(one_block(noise), TRAIN)
    assert got == pytest.approx([spearmanr(range(9), row).statistic for row in noise])


# --- Depth and layer 0 ---

#: Embedding, then blocks: at the end, as measured and in two copies.
FINALS = np.array([[0.1, 0.3, 0.2, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4, 0.5], [0.5, 0.4, 0.3, 0.2, 0.1]])


def profile() -> Curves:
    names = ["embed", *(f"block{i}" for i in range(1, 5))]
    courses = [np.stack([np.full(3, 0.9), column], axis=1) for column in FINALS.T]
    return planted(dict(zip(names, courses, strict=True)), (0, 8))


def test_numbers_of_the_profile_over_layers() -> None:
    curves = profile()
    # ranks 1, 3, 2, 5, 4 of five; 1, 3, 2, 4 of four
    rank, below = 1 - 6 * 4 / (5 * 24), 1 - 6 * 2 / (4 * 15)
    assert statistics.rank_with_layer(curves, TRAIN) == pytest.approx([rank, 1, -1])
    assert statistics.rank_with_layer_below(curves, TRAIN) == pytest.approx([below, 1, -1])
    assert statistics.depth_of_best(curves, TRAIN) == pytest.approx([3 / 4, 1, 0])
    assert statistics.depth_of_best_below(curves, TRAIN) == pytest.approx([1, 1, 0])
    assert statistics.above_embedding(curves, TRAIN) == pytest.approx([0.6, 0.4, 0])
    assert statistics.above_embedding_below(curves, TRAIN) == pytest.approx([0.6, 0.3, 0])
    assert statistics.embedding_final(curves, TRAIN) == pytest.approx([0.1, 0.1, 0.5])


def test_layer_0_moves_by_its_range_over_the_best_layers() -> None:
    zero = [0.1, 0.1, 0.15, 0.1, 0.05, 0.1, 0.1, 0.1, 0.1]
    best = [0.1, 0.0, 0.2, 0.4, 0.8, 0.8, 0.7, 0.7, 0.7]
    moving = planted({"embed": zero, "block1": best})
    assert statistics.embedding_range(moving, TRAIN) == pytest.approx([0.1 / 0.8])
    still = planted({"embed": line(0.1, 0.1), "block1": line(0.5, 0.5)})
    assert statistics.embedding_range(still, TRAIN).tolist() == [np.inf]


# --- Generalisation ---


def test_validation_follows_by_the_correlation_of_the_curves() -> None:
    train = stream(0, "train").random(9).cumsum() / 9
    unseen = 0.9 * train + 0.02 * stream(0, "unseen").normal(size=9)
    for course, expected in (
        (unseen, np.corrcoef(train, unseen)[0, 1]), (0.3 - 0.2 * train, -1), (np.full(9, 0.3), 0),
    ):  # fmt: skip
        curves = planted({"embed": line(0, 0), "block1": train}, unseen={"block1": course})
        assert statistics.generalisation_correlation(curves, PAIRS) == pytest.approx([expected])


# --- What needs no trained model ---


def test_the_untrained_network_by_its_best_layer() -> None:
    layers = {"wte": line(0.9, 0.9), "embed": line(0.1, 0.1), "block1": line(0.3, 0.5)}
    curves = planted({**layers, "block2": line(0.2, 0.8)})
    assert statistics.untrained_ratio(curves, TRAIN) == pytest.approx([0.3 / 0.8])
    later = planted({"embed": [0.1, 0.1], "block1": [0.3, 0.8]}, (1, 8))
    with pytest.raises(MissingError, match=r"^run 'mine' has no checkpoint of step 0$"):
        statistics.untrained_ratio(later, TRAIN)


def test_controls_over_the_best_layers_end() -> None:
    curves = planted({"embed": [[0.1], [0.1]], "block1": [[0.8], [0.0]]}, (8,))
    curves.controls[TRAIN, "control:symbols"] = np.array([0.2, 0.3])
    curves.controls[TRAIN, "control:length"] = np.array([0.4])
    assert statistics.control_ratio("control:symbols")(curves, TRAIN) == pytest.approx(
        [0.25, np.inf]
    )
    assert statistics.control_ratio("control:length")(curves, TRAIN) == pytest.approx([0.5, np.inf])
    with pytest.raises(MissingError, match=r"^run 'mine' has no control:input of train_subset$"):
        statistics.control_ratio("control:input")(curves, TRAIN)


# --- What is missing ---

WITH_COURSE = ["rank_with_step", "late_drift", "embedding_range", "largest_jump"]
WITH_COURSE += ["generalisation_correlation", "rise_duration"]
#: All but the controls.
EVERY = sorted({rule.number.__name__ for rule in RULES} - {"ratio"})


@pytest.mark.parametrize("name", ["rank_with_layer", "depth_of_best", "above_embedding"])
def test_a_network_of_one_block_has_nothing_below_the_last(name: str) -> None:
    with pytest.raises(MissingError, match=r"^a network of one block has no block below the last$"):
        getattr(statistics, f"{name}_below")(one_block(line(0, 1)), TRAIN)


def test_a_single_checkpoint_shows_no_rise() -> None:
    curves = planted({"embed": [0.1], "block1": [0.9]}, (7,))
    with pytest.raises(MissingError, match="a single checkpoint shows no rise"):
        statistics.upper_gain(curves, TRAIN)
    assert statistics.best_final(curves, TRAIN) == pytest.approx([0.9])


@pytest.mark.parametrize("name", WITH_COURSE)
def test_a_course_needs_eight_checkpoints(name: str) -> None:
    number: Number = getattr(statistics, name)
    few, enough = (
        planted(layers, steps, unseen=layers)
        for steps in (tuple(range(7)), tuple(range(8)))
        for layers in [{"embed": line(0, 0.1, steps), "block1": line(0, 1, steps)}]
    )
    assert np.isfinite(number(enough, PAIRS)).all()
    with pytest.raises(MissingError, match=r"^7 evenly spaced checkpoints are too few: at least"):
        number(few, PAIRS)


@pytest.mark.parametrize("name", EVERY)
def test_an_absent_split_is_missing(name: str) -> None:
    number: Number = getattr(statistics, name)
    layers = {"embed": line(0, 0.1), "block1": line(0, 1), "block2": line(0, 1)}
    assert number(planted(layers, unseen=layers), PAIRS).shape == (1,)
    with pytest.raises(MissingError, match=r"^run 'mine' has no scores of val_subset$"):
        number(planted(layers), PAIRS)


@pytest.mark.parametrize("name", EVERY)
def test_every_copy_is_judged_by_itself(name: str) -> None:
    """Up to the choices that are made once: the layer, and where it is saturated."""
    number: Number = getattr(statistics, name)
    random = stream(0, "copies")
    names = ("embed", "block1", "block2", "block3")
    first = np.array([line(0, 0.2 * i) for i in range(4)])  # (layer, S)
    layers = first[:, None] + 0.1 * random.random((4, 5, 9))
    layers[:, 0] = first
    unseen = layers * (0.8 + 0.1 * random.random((4, 5, 9)))

    def chosen_rows(*rows: int) -> Curves:
        chosen = [dict(zip(names, part[:, list(rows)], strict=True)) for part in (layers, unseen)]
        return planted(chosen[0], unseen=chosen[1])

    together = number(chosen_rows(0, 1, 2, 3, 4), PAIRS)
    assert together.shape == (5,)
    for row in range(1, 5):
        assert number(chosen_rows(0, row), PAIRS) == pytest.approx(together[[0, row]])
    assert number(chosen_rows(0), PAIRS) == pytest.approx(together[:1])
