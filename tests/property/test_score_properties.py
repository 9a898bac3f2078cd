import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from conftest import examples
from tasklens.scoring.variance import centred, variance_share

pytestmark = pytest.mark.fuzz

steady = examples(60)


@st.composite
def states(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    n, d = draw(st.integers(2, 20)), draw(st.integers(1, 4))
    numbers = st.floats(-100, 100, width=16)
    x = draw(hnp.arrays(np.float32, (n, d), elements=numbers))
    return x, draw(hnp.arrays(np.int64, n, elements=st.integers(0, 4)))


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
    share = variance_share(centred(x), groups)
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
    assert variance_share(centred(constants), groups) == pytest.approx(float(spread), abs=1e-9)
    mirrored = np.concatenate([x, -x])  # each group's mean is 0
    assert variance_share(centred(mirrored), np.tile(groups, 2)) == pytest.approx(0, abs=1e-9)
    assert variance_share(centred(x), np.zeros_like(groups)) == pytest.approx(0, abs=1e-9)
