import os
from collections.abc import Iterator

import pytest

from tasklens.errors import InputError
from tasklens.parallel import Processes, default_workers


def square(number: int) -> int:
    if number == 5:
        raise InputError("items: 5 is one too many: should be less")
    return number * number


def process(_: int) -> int:
    return os.getpid()


def test_results_come_in_order_from_processes_that_are_reused() -> None:
    with Processes(2) as workers:
        assert list(workers.map(square, range(5))) == [0, 1, 4, 9, 16]
        first, second = (set(workers.map(process, range(20))) for _ in range(2))
        assert len(first | second) <= 2
        assert os.getpid() not in first | second
        with pytest.raises(InputError, match=r"^items: 5 is one too many: should be less$"):
            list(workers.map(square, range(20)))
        assert list(workers.map(square, [])) == []
        assert list(workers.map(square, [3])) == [9], "an error does not break the pool"


@pytest.mark.parametrize("count", [-1, 0, 1])
def test_one_worker_is_this_process(count: int) -> None:
    with Processes(count) as workers:
        assert list(workers.map(process, [0])) == [os.getpid()]
        with pytest.raises(InputError, match="one too many"):
            list(workers.map(square, range(9)))


def test_items_in_flight_are_bounded() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield 1

    with Processes(2) as workers:
        results = workers.map(square, items())
        assert taken == 0
        for done in range(1, 20):
            assert next(results) == 1
            assert taken <= done + 3
        results.close()  # type: ignore[attr-defined]
    assert taken < 30


def test_progress_is_quiet_off_terminals(capfd: pytest.CaptureFixture[str]) -> None:
    with Processes(1) as workers:
        outcomes = list(workers.outcomes(square, [2, 3], progress="squares"))
    assert [outcome.result for outcome in outcomes] == [4, 9]
    assert capfd.readouterr() == ("", "")


def test_default_workers() -> None:
    assert 1 <= default_workers() <= (os.cpu_count() or 1)
