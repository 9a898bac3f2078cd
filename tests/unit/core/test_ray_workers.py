"""Ray on this machine alone; `e2e/test_ray.py` has a cluster."""

import pytest

from tasklens.core.errors import InputError
from tasklens.core.workers import opened, start_workers


def test_an_instance_of_its_own_works_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    import ray

    def root(x: float) -> float:
        if x < 0:
            raise InputError(f"{x}: should be positive")
        return float(x**0.5)

    with opened("ray:local"), start_workers("ray:local", 1) as workers:
        assert (workers.count, workers.remote) == (1, True)
        outcomes = {x: (result, error) for x, result, error in workers.outcomes(root, [4.0, -1.0])}
    assert not ray.is_initialized()
    assert outcomes[4.0] == (2.0, None)
    result, error = outcomes[-1.0]
    assert result is None
    assert isinstance(error, InputError)
    assert str(error) == "-1.0: should be positive"
    assert capsys.readouterr() == ("", "")


def test_an_address_without_a_cluster_is_refused() -> None:
    refused = "^--engine ray:127.0.0.1:9: no Ray cluster answers at this address: "
    with pytest.raises(InputError, match=refused), opened("ray:127.0.0.1:9"):
        pass
