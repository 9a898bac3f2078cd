"""Agreement of partitions, held to scikit-learn's scores and to what any such measure obeys."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    homogeneity_completeness_v_measure,
)

from tasklens.scoring.partition_agreement import adjusted_rand, agreement, contingency

pytestmark = pytest.mark.fuzz


@st.composite
def partitions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draw two partitions of up to 60 elements, from all equal to all different."""
    n = draw(st.integers(2, 60))
    parts = [draw(st.integers(1, 12)) for _ in range(2)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    a = rng.integers(parts[0], size=n)
    b = np.where(rng.random(n) < draw(st.floats(0, 1)), a, rng.integers(parts[1], size=n))
    return a, b


@given(partitions())
def test_they_are_those_of_scikit_learn(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    got = agreement(contingency(a, b))
    assert got["ari"] == pytest.approx(adjusted_rand_score(a, b), abs=1e-12)
    expected = homogeneity_completeness_v_measure(a, b)
    for name, value in zip(("homogeneity", "completeness", "v_measure"), expected, strict=True):
        assert got[name] == pytest.approx(value, abs=1e-9), name
    assert got["ami"] == pytest.approx(adjusted_mutual_info_score(a, b), abs=1e-6)


@given(partitions())
def test_the_names_of_the_parts_do_not_matter(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    renamed = agreement(contingency(100 - a, 7 * b - 3))
    assert renamed == pytest.approx(agreement(contingency(a, b)), abs=1e-9)
    assert adjusted_rand(contingency(b, a)) == adjusted_rand(contingency(a, b))
    assert agreement(contingency(a, a)) == pytest.approx(dict.fromkeys(renamed, 1.0)), "with itself"


def test_many_elements_do_not_overflow() -> None:
    n, rng = 300_000, np.random.default_rng(0)
    a = rng.integers(2, size=n)
    b = np.where(rng.random(n) < 0.9, a, 1 - a)
    assert adjusted_rand(contingency(a, b)) == pytest.approx(adjusted_rand_score(a, b), abs=1e-12)
