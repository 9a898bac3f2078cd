import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasklens.core.errors import InputError
from tasklens.core.workers import (
    LOCAL,
    Processes,
    cores_of_nodes,
    default_workers,
    need_seen,
    opened,
    reason,
    start_workers,
)


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


@pytest.mark.parametrize("how", ["map", "outcomes"])
def test_items_in_flight_are_bounded(how: str) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield 1

    with Processes(2) as workers:
        results = getattr(workers, how)(square, items())
        assert taken == 0
        for done in range(1, 20):
            assert next(results) in (1, (1, 1, None))
            assert taken <= done + 3
        results.close()
    assert taken < 30


def test_this_machine_has_its_cores_and_its_disk(tmp_path: Path) -> None:
    assert not Processes.remote
    assert cores_of_nodes(LOCAL) == [default_workers()]
    with opened(LOCAL), start_workers(LOCAL, 0) as workers:
        assert workers.count == default_workers()
    need_seen(tmp_path)
    with pytest.raises(InputError, match=r"/gone cannot be seen on .* that all machines see$"):
        need_seen(tmp_path / "gone")
    assert 1 <= default_workers() <= (os.cpu_count() or 1)


def dies(number: int) -> int:
    if number == 2:
        os._exit(1)
    return number


@pytest.mark.parametrize("count", [1, 2])
def test_what_fails_holds_nothing_else_up(count: int, capfd: pytest.CaptureFixture[str]) -> None:
    with Processes(count) as workers:
        outcomes = list(workers.outcomes(square, range(3, 9), "squares", "number"))
    ((five, _, error),) = (outcome for outcome in outcomes if outcome.error)
    assert {item: r for item, r, error in outcomes if not error} == {
        item: item * item for item in (3, 4, 6, 7, 8)
    }
    assert isinstance(error, InputError)
    assert (five, reason(error)) == (5, "items: 5 is one too many: should be less")
    assert capfd.readouterr() == ("", ""), "progress is for terminals"


def test_a_killed_process_is_reported_in_one_line() -> None:
    with (
        Processes(2) as workers,
        pytest.raises(InputError, match=r"^a worker process was killed, .*--resume, or with fewer"),
    ):
        list(workers.outcomes(dies, range(9)))


def test_reasons_are_one_line() -> None:
    assert reason(InputError("a\nb.json: cannot be read")) == r"a\nb.json: cannot be read"
    assert reason(ValueError("too\n  many")) == "ValueError: too many"
    assert reason(KeyError("x")) == "KeyError: 'x'"
