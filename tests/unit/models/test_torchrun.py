"""The variables of torchrun, and of other launchers that set some of the same names."""

import pytest

from tasklens.core.errors import InputError
from tasklens.models.torchrun import check_launch, is_other_rank, launched_by_torchrun

LAUNCHED = {
    "TORCHELASTIC_RUN_ID": "none",
    "WORLD_SIZE": "2",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_PORT": "29500",
}


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_process_of_torchrun_and_one_of_another_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, LAUNCHED)
    check_launch()
    assert launched_by_torchrun()
    assert is_other_rank()
    nonsense = dict.fromkeys(LAUNCHED, "many")
    del nonsense["TORCHELASTIC_RUN_ID"]
    for variables in (nonsense, {"TORCHELASTIC_RUN_ID": "none"}, {}):
        set_variables(monkeypatch, variables)
        check_launch()
        assert not launched_by_torchrun()
        assert not is_other_rank()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("WORLD_SIZE", "many", "WORLD_SIZE = 'many': should be a number from 1 to 1000000, as tor"),
        ("WORLD_SIZE", "0", "WORLD_SIZE = '0': should be a number from 1 to"),
        ("WORLD_SIZE", "9" * 5000, "WORLD_SIZE = '999"),
        ("RANK", "2", "RANK = '2': should be a number from 0 to 1, as torchrun sets it"),
        ("RANK", "-1", "RANK = '-1': should be"),
        ("RANK", "²", "RANK = '²': should be"),
        ("RANK", None, "RANK is not set: should be a number from 0 to 1"),
        ("LOCAL_RANK", "2", "LOCAL_RANK = '2': should be a number from 0 to 1"),
        ("LOCAL_WORLD_SIZE", "3", "LOCAL_WORLD_SIZE = '3': should be a number from 1 to 2"),
        ("MASTER_PORT", "x", "MASTER_PORT = 'x': should be a number from 0 to 65535"),
    ],
)
def test_a_variable_that_torchrun_would_not_set(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, message: str
) -> None:
    variables = {key: each for key, each in LAUNCHED.items() if key != name}
    set_variables(monkeypatch, variables if value is None else variables | {name: value})
    with pytest.raises(InputError) as error:
        check_launch()
    assert str(error.value).startswith(f"the environment variable {message}")
    assert len(str(error.value)) < 400
