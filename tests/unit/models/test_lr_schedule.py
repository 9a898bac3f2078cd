from itertools import pairwise

import pytest
import torch

from tasklens.models.lr_schedule import checkpoint_steps, evenly_spaced, learning_rate


def rates(peak: float, floor: float, warmup: int, total: int) -> list[float]:
    return [
        learning_rate(step, peak=peak, floor=floor, warmup=warmup, total=total)
        for step in range(total)
    ]


def test_the_cosine_by_hand() -> None:
    assert rates(1.0, 0.0, 4, 10)[:4] == [0.25, 0.5, 0.75, 1.0], "a linear warm-up"
    # one step at the peak, then 1/4, 2/4, 3/4 and 4/4 of half a cosine
    expected = [1.0, 0.1 + 0.9 * 0.853553, 0.1 + 0.9 * 0.5, 0.1 + 0.9 * 0.146447, 0.1]
    assert rates(1.0, 0.1, 1, 5) == pytest.approx(expected, abs=1e-6)
    assert rates(2.0, 0.5, 9, 10)[-1] == pytest.approx(0.5), "the floor after the warm-up"
    assert rates(2.0, 0.5, 4, 4) == [0.5, 1.0, 1.5, 2.0], "a warm-up alone"


@pytest.mark.parametrize(("warmup", "floor"), [(0, 0.0), (5, 0.0), (5, 1e-4)])
def test_the_cosine_is_torchs(warmup: int, floor: float) -> None:
    total, peak = 25, 3e-3
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total - warmup, eta_min=floor)
    expected = []
    for _ in range(total - warmup):
        optimizer.step()
        cosine.step()
        expected.append(optimizer.param_groups[0]["lr"])
    assert rates(peak, floor, warmup, total)[warmup:] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("total", "every", "steps"),
    [
        (60, 20, (0, 1, 2, 4, 8, 16, 20, 40, 60)),
        (50, 20, (0, 1, 2, 4, 8, 16, 20, 40, 50)),
        (20, 16, (0, 1, 2, 4, 8, 16, 20)),
        (3, 1, (0, 1, 2, 3)),
        (5, 100, (0, 1, 2, 4, 5)),
        (1, 1, (0, 1)),
    ],
)
def test_checkpoints_are_dense_first_then_even(
    total: int, every: int, steps: tuple[int, ...]
) -> None:
    assert checkpoint_steps(total, every) == steps


def test_checkpoints_are_those_of_pythia() -> None:
    powers, even = [2**i for i in range(10)], range(1000, 143_001, 1000)
    assert checkpoint_steps(143_000, 1000) == (0, *powers, *even)


def test_evenly_spaced_steps_have_the_first_and_the_last() -> None:
    assert evenly_spaced((), 3) == ()
    assert evenly_spaced((0, 1, 2, 3, 5, 8), 1) == (8,)
    assert evenly_spaced((0, 1, 2, 3, 5, 8), 3) == (0, 3, 8)
    assert evenly_spaced((0, 1, 2, 3, 5, 8), 9) == (0, 1, 2, 3, 5, 8)
    assert evenly_spaced((0, 1, 2), 0) == ()
    assert evenly_spaced((8, 5, 3, 2, 1, 0), 6) == (0, 1, 2, 3, 5, 8)
    steps = checkpoint_steps(2600, 200)  # dense below 200
    assert evenly_spaced(steps, 3) == (0, 1200, 2600)
    for n in range(2, 15):
        chosen = evenly_spaced(steps, n)
        assert (chosen[0], chosen[-1], len(chosen)) == (0, 2600, n)
        assert all(abs(b - a - 2600 / (n - 1)) <= 200 for a, b in pairwise(chosen))
    assert evenly_spaced((0, 1, 2, 100), 3) == (0, 2, 100)
