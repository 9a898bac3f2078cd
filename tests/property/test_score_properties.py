import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tasklens.clustering.cluster import Cell, Clustering
from tasklens.data.instances import Instances
from tasklens.scoring.score_table import score_cell
from tasklens.scoring.variance import variance_share

steady = settings(deadline=None, derandomize=True, max_examples=60)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    n = draw(st.integers(2, 30))
    labels = hnp.arrays(np.int64, n, elements=st.integers(0, 5))
    return draw(labels), draw(labels)


@st.composite
def states(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    n, d = draw(st.integers(2, 20)), draw(st.integers(1, 4))
    numbers = st.floats(-100, 100, width=16)
    x = draw(hnp.arrays(np.float32, (n, d), elements=numbers))
    return x, draw(hnp.arrays(np.int64, n, elements=st.integers(0, 4)))


def scored(task: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, float]:
    n = len(task)
    cell = Cell(0, 0, "s", "wte", "tsne", 2, np.zeros((n, 1), dtype=np.float32))
    what = Instances(task, labels, task, task, task[:, None])
    clustering = Clustering(labels[None].astype(np.int16), np.zeros(1), None)
    return {
        str(r["metric"]): float(r["value"] or 0) for r in score_cell(cell, clustering, what, "")
    }


@steady
@given(pairs())
def test_agreement_is_symmetric_and_bounded(pair: tuple[NDArray[np.int64], ...]) -> None:
    there, back = scored(*pair), scored(*pair[::-1])
    for metric in ("ari", "ami", "v_measure"):
        assert there[metric] == pytest.approx(back[metric], abs=1e-9)
    assert there["homogeneity"] == pytest.approx(back["completeness"], abs=1e-9)
    assert -0.5 <= there["ari"] <= 1
    for metric in ("homogeneity", "completeness", "v_measure"):
        assert -1e-9 <= there[metric] <= 1 + 1e-9


@steady
@given(pairs(), st.permutations(range(6)), st.integers(0, 99))
def test_agreement_knows_neither_names_nor_order(
    pair: tuple[NDArray[np.int64], ...], names: list[int], seed: int
) -> None:
    task, labels = pair
    order = np.random.default_rng(seed).permutation(len(task))
    one, other = scored(task, labels), scored(task[order], np.array(names)[labels][order])
    for metric in ("ari", "ami", "homogeneity", "completeness", "v_measure"):
        assert one[metric] == pytest.approx(other[metric], abs=1e-9)


@steady
@given(pairs())
def test_agreement_with_oneself_is_whole(pair: tuple[NDArray[np.int64], ...]) -> None:
    got = scored(pair[0], pair[0])
    for metric in ("ari", "ami", "homogeneity", "completeness", "v_measure", "ari_input"):
        assert got[metric] == pytest.approx(1.0)


@steady
@given(states())
def test_variance_share_is_the_brute_force_sum(
    pair: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    x, groups = pair
    exact = x.astype(np.longdouble)
    total = sum(np.sum((row - exact.mean(axis=0)) ** 2) for row in exact)
    assume(total > 1e-6)
    between = 0.0
    for group in set(groups.tolist()):
        members = exact[groups == group]
        between += len(members) * float(np.sum((members.mean(axis=0) - exact.mean(axis=0)) ** 2))
    share = variance_share(x, groups)
    assert 0 <= share <= 1
    assert share == pytest.approx(between / float(total), abs=1e-9)


@steady
@given(states())
def test_variance_share_of_constant_groups_and_of_equal_means(
    pair: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    x, groups = pair
    constants = x[groups % len(x)]  # (N, D): one point for each group
    spread = bool((constants != constants[0]).any())
    assert variance_share(constants, groups) == pytest.approx(float(spread), abs=1e-9)
    mirrored = np.concatenate([x, -x])  # each group's mean is 0
    assert variance_share(mirrored, np.tile(groups, 2)) == pytest.approx(0, abs=1e-9)
    assert variance_share(x, np.zeros_like(groups)) == pytest.approx(0, abs=1e-9)
