"""Several processes train one model, as torchrun starts them: the steps are those of one."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch

from conftest import HANG
from e2e import torchrun_program as program
from e2e.conftest import (
    Command,
    Finished,
    Result,
    assert_refused,
    changes,
    contents,
    without_progress,
)
from e2e.processes import start_python
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


def torchrun(*arguments: str | Path) -> Result:
    """Start two processes and wait for them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=HANG
    )
    return Result(done.returncode, done.stdout, without_progress(done.stderr))


class Battery(NamedTuple):
    """Tensors and curves of the battery, equal on both processes. Not to be changed."""

    tensors: dict[str, torch.Tensor]
    curves: dict[str, Any]


@pytest.fixture(scope="module")
def battery(tmp_path_factory: pytest.TempPathFactory) -> Battery:
    path = tmp_path_factory.mktemp("battery")
    result = torchrun(program.__file__, "battery", path)
    assert result.status == 0, result.err
    first, second = (json.loads((path / f"curves-{i}.json").read_text()) for i in (0, 1))
    assert first == second
    return Battery(safetensors.torch.load_file(path / "tensors.safetensors"), first)


def part(tensors: dict[str, torch.Tensor], within: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(within): v for k, v in tensors.items() if k.startswith(within)}


def assert_close(mine: dict[str, torch.Tensor], one: dict[str, torch.Tensor], near: float) -> None:
    assert mine.keys() == one.keys()
    for name, value in one.items():
        assert mine[name].shape == value.shape, name
        difference = float((mine[name] - value).abs().max())
        assert difference <= near * float(value.abs().max()), name


# --- Steps ---


@pytest.mark.parametrize("loss", program.LOSSES)
def test_gradients_are_those_of_one_process(battery: Battery, loss: str) -> None:
    """Compare the third step, so that anything the earlier steps left behind would show."""
    one = program.gradients_of(program.trainer_of(program.dataset(), **program.LOSSES[loss]), 3)
    assert_close(part(battery.tensors, f"{loss}/"), one, CLOSE)


def test_the_loss_curve_is_that_of_one_process_even_if_it_begins_or_resumes_the_run(
    battery: Battery,
) -> None:
    near = partial(np.testing.assert_allclose, rtol=CURVE, atol=1e-6)
    trainer = program.trainer_of(program.dataset())
    one = program.curve_of(trainer)
    assert len(one) == len(battery.curves["all"]) == program.SETTINGS["steps"]
    assert one[-1][0] < 0.9 * one[0][0], "it learns, so that the curve can differ"
    near(battery.curves["all"], one)
    assert_close(part(battery.tensors, "end/"), trainer.state(), 1e-3)
    near(battery.curves["resumed"], one[program.HALF :])
    trainer = program.trainer_of(program.dataset())
    assert trainer.begin(part(battery.tensors, "half/"))
    assert trainer.step == program.HALF
    near(program.curve_of(trainer), battery.curves["all"][program.HALF :])
    other = program.curve_of(program.trainer_of(program.dataset(), instructions_per_step=4))
    assert not np.allclose(np.array(one)[:, 0], np.array(other)[:, 0], rtol=CURVE), "would show"


def test_dropout_differs_from_process_to_process(battery: Battery) -> None:
    """Compare with the losses of one mask on both processes, and of no mask."""
    for dropout in (0.5, 0.0):
        one = program.curve_of(program.trainer_of(program.dataset(), dropout=dropout), 2)
        assert abs(battery.curves["dropout"][0][0] - one[0][0]) > 1e-4


def test_rank_0_decides_and_more_processes_than_rows_are_refused(battery: Battery) -> None:
    assert battery.curves["flag"] is True
    assert battery.curves["fresh"] == [False, "fp32"], "no state, and too narrow for bf16"
    right = "should be at least the number of processes, 2, each of which takes a share"
    assert battery.curves["too few"] == f"train.instructions_per_step = 1: {right}"


def test_no_thread_outlives_the_process_group(battery: Battery) -> None:
    """One that still holds a tensor when Python ends would abort the process."""
    assert battery.curves["threads within"]
    assert battery.curves["threads after"] == []


@pytest.mark.parametrize(("n", "size"), [(5, 2), (7, 3), (24, 5), (3, 3)])
def test_shares_cover_all_rows_and_are_nearly_equal(n: int, size: int) -> None:
    shares = [range(n)[ProcessGroup(rank, size).share_of(n)] for rank in range(size)]
    assert [i for share in shares for i in share] == [*range(n)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_of_several_has_its_own_gpu() -> None:
    assert training_device("cuda:1", SINGLE_PROCESS) == torch.device("cuda:1")
    assert training_device("cpu", ProcessGroup(1, 2)) == torch.device("cpu")
    with pytest.raises(
        InputError,
        match=r"^train.device = 'cuda:1': should be cuda; torchrun gives each process its own GPU$",
    ):
        training_device("cuda:1", ProcessGroup(1, 2))


@pytest.fixture
def rank_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Make this process seem to be a rank of several that torchrun has launched here."""

    def seem(rank: int, size: int) -> None:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
        monkeypatch.setenv("MASTER_PORT", "29500")
        for name, value in (("RANK", rank), ("WORLD_SIZE", size)):
            monkeypatch.setenv(name, str(value))
            monkeypatch.setenv(f"LOCAL_{name}", str(value))

    return seem


def test_more_processes_than_gpus_are_refused(
    rank_of: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    rank_of(1, 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(
            InputError, match=r"2 processes on this machine, which has 1 GPUs: .*per-node=1$"
        ),
        process_group("cuda"),
    ):
        pass


# --- The command ---


def assert_same_run(path: Path, tiny: Finished, processes: int) -> None:
    """Compare a run that another number of processes ended with that of one process."""

    def metrics(run: Path) -> list[list[float]]:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        return [[*json.loads(line).values()] for line in lines]

    assert contents(path).keys() == contents(tiny.path).keys()
    np.testing.assert_allclose(metrics(path), metrics(tiny.path), rtol=CURVE, atol=1e-6)
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["stages"]["train"]["processes"] == processes


def own_lines(result: Result) -> list[str]:
    """Return the lines of tasklens on standard error, without those of torchrun and of edits."""
    lines = [line for line in result.err.splitlines() if line.startswith("tasklens: ")]
    return [line for line in lines if not line.startswith("tasklens: interventions: ")]


OTHER_NUMBER = (
    "tasklens: training resumes with another number of processes ({}, it began with {}): "
    "the last bits may differ"
)


@pytest.mark.long
def test_torchrun_resumes_a_run_of_one_process_and_ends_it(
    tiny: Finished, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / tiny.path.name
    arguments = ("run", "smoke", *changes(), "--out", str(path))
    single = start_python(program.__file__, "until", "8", *arguments)
    _, err = single.communicate(timeout=HANG)
    assert single.returncode == 2, err
    result = torchrun("-m", "tasklens", *arguments, "--resume")
    assert result.status == 0, result.err
    assert own_lines(result) == [OTHER_NUMBER.format(2, 1)]
    assert result.out.splitlines()[-1] == str(path / "figures" / "figure1.png")
    assert len(result.out.splitlines()) == len(tiny.result.out.splitlines()), "rank 0 alone prints"
    assert_same_run(path, tiny, 2)
    assert_same_run(tiny.path, tiny, 1)


@pytest.mark.long
def test_one_process_resumes_a_run_that_torchrun_began(
    tiny: Finished, command: Command, tmp_path: Path
) -> None:
    """Resume a run whose rank 0 failed while the other rank waited."""
    path = tmp_path / tiny.path.name
    arguments = ("run", "smoke", *changes(), "--out", str(path))
    result = torchrun(program.__file__, "until", "8", *arguments)
    assert result.status != 0
    assert own_lines(result)[-1] == "tasklens: error: no space left at step 8"
    assert result.out == ""
    assert result.err.count("no space left") == 1, "rank 0 alone reports it"
    resumed = command(*arguments, "--resume")
    assert resumed.status == 0
    assert own_lines(resumed) == [OTHER_NUMBER.format(1, 2)]
    assert_same_run(path, tiny, 1)


def test_rank_0_alone_prints_and_torchrun_is_refused_if_nothing_is_trained(
    command: Command, rank_of: Callable[[int, int], None], tiny: Finished, tmp_path: Path
) -> None:
    rank_of(0, 1)
    assert command("show", tiny.path).status == 0, "one process of torchrun's is one process"
    rank_of(0, 2)
    refused = command("measure", tiny.path)
    assert_refused(refused, "torchrun trains one model", "run or train, not measure")
    rank_of(1, 2)
    assert command("measure", tiny.path) == Result(2, "", "")
    plan = ("run", "smoke", *changes(), "--out", tmp_path / "run", "--dry-run")
    assert command(*plan) == Result(0, "", "")
    assert not (tmp_path / "run").exists()
