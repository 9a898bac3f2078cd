"""Several processes train one model, as torchrun starts them: the steps are those of one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from e2e import along
from e2e.conftest import Command, Finished, Result, assert_refused, changes, contents
from tasklens.core.errors import InputError
from tasklens.models.distributed import (
    SINGLE_PROCESS,
    ProcessGroup,
    process_group,
    training_device,
)

#: Sums in another order: how far gradients and weights of two processes are from those of one,
#: relative to the largest of each tensor. Measured: 6.5e-7 for gradients after three steps.
CLOSE = 3e-6
#: The same of losses and gradient norms along a curve, whose differences grow from step to step.
CURVE = 1e-4


def torchrun(*words: str | Path) -> Result:
    """Start two processes and wait for them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, *map(str, words)], capture_output=True, text=True, check=False, timeout=120
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def battery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made of `along.battery`. Not to be changed."""
    path = tmp_path_factory.mktemp("battery")
    result = torchrun(along.__file__, "battery", path)
    assert result.status == 0, result.err
    return path


@pytest.fixture(scope="module")
def tensors(battery: Path) -> dict[str, torch.Tensor]:
    return dict(safetensors.torch.load_file(battery / "tensors.safetensors"))


@pytest.fixture(scope="module")
def curves(battery: Path) -> dict[str, Any]:
    """What both processes say, which is the same."""
    first, second = (json.loads((battery / f"curves-{i}.json").read_text()) for i in (0, 1))
    assert first == second
    return dict(first)


def part(tensors: dict[str, torch.Tensor], within: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(within): v for k, v in tensors.items() if k.startswith(within)}


def assert_close(mine: dict[str, torch.Tensor], one: dict[str, torch.Tensor], near: float) -> None:
    assert mine.keys() == one.keys()
    for name, value in one.items():
        assert mine[name].shape == value.shape, name
        apart = float((mine[name] - value).abs().max())
        assert apart <= near * float(value.abs().max()), name


# --- Steps ---


@pytest.mark.parametrize("loss", along.LOSSES)
def test_gradients_are_those_of_one_process(tensors: dict[str, torch.Tensor], loss: str) -> None:
    """Of the third step, so that what the steps before left in place would show."""
    one = along.gradients_of(along.trainer_of(along.dataset(), **along.LOSSES[loss]), 3)
    assert_close(part(tensors, f"{loss}/"), one, CLOSE)


def test_the_loss_curve_is_that_of_one_process(
    tensors: dict[str, torch.Tensor], curves: dict[str, Any]
) -> None:
    trainer = along.trainer_of(along.dataset())
    one = along.curve_of(trainer)
    assert len(one) == len(curves["all"]) == along.SETTINGS["steps"]
    assert one[-1][0] < 0.9 * one[0][0], "it learns, so that the curve says something"
    np.testing.assert_allclose(curves["all"], one, rtol=CURVE, atol=1e-6)
    state = trainer.state()
    assert_close(part(tensors, "end/"), state, 1e-3)


def test_a_curve_of_other_rows_would_be_found(curves: dict[str, Any]) -> None:
    other = along.curve_of(along.trainer_of(along.dataset(), instructions_per_step=4))
    assert not np.allclose(np.array(curves["all"])[:, 0], np.array(other)[:, 0], rtol=CURVE)


def test_one_process_goes_on_from_what_two_left(
    tensors: dict[str, torch.Tensor], curves: dict[str, Any]
) -> None:
    trainer = along.trainer_of(along.dataset())
    assert trainer.begin(part(tensors, "half/"))
    assert trainer.step == along.HALF
    np.testing.assert_allclose(
        along.curve_of(trainer), curves["all"][along.HALF :], rtol=CURVE, atol=1e-6
    )


def test_two_processes_go_on_from_what_one_left(curves: dict[str, Any]) -> None:
    one = along.curve_of(along.trainer_of(along.dataset()))[along.HALF :]
    np.testing.assert_allclose(curves["resumed"], one, rtol=CURVE, atol=1e-6)


def test_dropout_differs_from_process_to_process(curves: dict[str, Any]) -> None:
    """Were it the same mask on both, or none, the losses would be those of others."""
    alone = along.curve_of(along.trainer_of(along.dataset(), dropout=0.5), 2)
    without = along.curve_of(along.trainer_of(along.dataset()), 2)
    for one in (alone, without):
        assert abs(curves["dropout"][0][0] - one[0][0]) > 1e-4


def test_the_flag_of_rank_0_goes_to_all_ranks(curves: dict[str, Any]) -> None:
    assert curves["flag"] is True
    assert curves["fresh"] == [False, "fp32"], "nothing to go on from, and too narrow for bf16"


def test_more_processes_than_rows_are_refused(curves: dict[str, Any]) -> None:
    assert curves["too few"] == (
        "train.instructions_per_step = 1: should be at least the number of processes, 2: each "
        "takes a share of them"
    )


@pytest.mark.parametrize(("n", "size"), [(5, 2), (7, 3), (24, 5), (3, 3)])
def test_shares_are_all_there_is_and_nearly_equal(n: int, size: int) -> None:
    shares = [range(n)[ProcessGroup(rank, size).share_of(n)] for rank in range(size)]
    assert [i for share in shares for i in share] == [*range(n)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_of_several_has_its_own_gpu() -> None:
    assert training_device("cuda:1", SINGLE_PROCESS) == torch.device("cuda:1")
    assert training_device("cpu", ProcessGroup(1, 2)) == torch.device("cpu")
    with pytest.raises(InputError, match=r"^train.device = 'cuda:1': torchrun gives .* say cuda$"):
        training_device("cuda:1", ProcessGroup(1, 2))


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(InputError, match=r"2 processes here, which has 1 GPUs: .*per-node=1$"),
        process_group("cuda"),
    ):
        pass


# --- The command ---


def metrics(path: Path) -> list[list[float]]:
    lines = (path / "metrics.jsonl").read_text().splitlines()
    return [[*json.loads(line).values()] for line in lines]


def noted(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / "manifest.json").read_text())["stages"]["train"])


def said(result: Result) -> list[str]:
    """Return what our command said on standard error, without torchrun's own words."""
    return [line for line in result.err.splitlines() if line.startswith("tasklens: ")]


def test_torchrun_goes_on_with_a_run_of_one_process_and_ends_it(
    tiny: Finished, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / tiny.path.name
    with pytest.MonkeyPatch.context() as patch:

        def stops(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("tasklens.models.training.Trainer.run", stops)
        assert command("run", "smoke", *changes(), "--out", path).status == 130
    result = torchrun("-m", "tasklens", "run", "smoke", *changes(), "--out", path, "--resume")
    assert result.status == 0, result.err
    assert said(result) == [
        "tasklens: training resumes with another number of processes (2, it began with 1): "
        "the last bits may differ"
    ]
    assert result.out.splitlines()[-1] == str(path / "figures" / "figure1.png")
    assert len(result.out.splitlines()) == len(tiny.result.out.splitlines()), "said once"
    assert contents(path).keys() == contents(tiny.path).keys()
    np.testing.assert_allclose(metrics(path), metrics(tiny.path), rtol=CURVE, atol=1e-6)
    assert (noted(path)["processes"], noted(tiny.path)["processes"]) == (2, 1)


def test_one_process_goes_on_with_a_run_that_torchrun_began(
    tiny: Finished, command: Command, tmp_path: Path
) -> None:
    """Rank 0 had failed while the other rank waited."""
    path = tmp_path / tiny.path.name
    words = ["run", "smoke", *changes(), "--out", str(path)]
    result = torchrun(along.__file__, "until", "8", *words)
    assert result.status != 0
    assert said(result)[-1] == "tasklens: error: no space left at step 8"
    assert result.out == ""
    assert result.err.count("no space left") == 1, "rank 0 alone reports it"
    resumed = command("run", "smoke", *changes(), "--out", path, "--resume")
    assert resumed.status == 0
    assert resumed.err.splitlines() == [
        "tasklens: training resumes with another number of processes (1, it began with 2): "
        "the last bits may differ"
    ]
    assert contents(path).keys() == contents(tiny.path).keys()
    np.testing.assert_allclose(metrics(path), metrics(tiny.path), rtol=CURVE, atol=1e-6)


@pytest.mark.parametrize("rank", [0, 1])
def test_torchrun_is_refused_what_does_not_train(
    command: Command, monkeypatch: pytest.MonkeyPatch, tiny: Finished, rank: int
) -> None:
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2"), ("RANK", str(rank))):
        monkeypatch.setenv(name, value)
    result = command("measure", tiny.path)
    if rank == 0:
        assert_refused(result, "torchrun trains one model", "run or train, not measure")
    else:
        assert result == Result(2, "", "")


def test_one_process_of_torchruns_is_one_process(
    command: Command, monkeypatch: pytest.MonkeyPatch, tiny: Finished
) -> None:
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "1"), ("RANK", "0")):
        monkeypatch.setenv(name, value)
    assert command("show", tiny.path).status == 0


def test_a_plan_is_said_by_the_first_process_alone(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2"), ("RANK", "1")):
        monkeypatch.setenv(name, value)
    words = ("run", "smoke", *changes(), "--out", tmp_path / "run", "--dry-run")
    assert command(*words) == Result(0, "", "")
    assert not (tmp_path / "run").exists()
