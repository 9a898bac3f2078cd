from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tasklens.core.errors import InputError
from tasklens.runs import estimate
from tasklens.runs.estimate import check_memory_of, check_run
from tasklens.runs.pipeline import run
from tasklens.runs.plan import make_plan
from tasklens.runs.settings import PRESETS, load_settings

GB = 10**9


class Usage(NamedTuple):
    free: int


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the free memory 8 GB and the free disk 40 GB, whatever this machine has."""
    monkeypatch.setattr("tasklens.core.memory.free_memory", lambda: 8 * GB)
    monkeypatch.setattr(estimate, "free_bytes", lambda _: 8 * GB)
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(40 * GB))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.n_embd": 100_000}, r"model\.n_embd = 100000: a training step needs at least 3,8"),
        ({"model.n_layer": 10_000, "model.n_embd": 128}, r"model\.n_layer = 10000: a training st"),
        ({"train.instructions_per_step": 10**9}, r"train\.instructions_per_step = 1000000000: a "),
        ({"tasks.n_outputs": 10**9}, r"tasks\.n_outputs = 1000000000: the dataset needs at least"),
        ({"tasks.n_outputs": 3 * 10**7}, r"tasks\.n_outputs = 30000000: a training step needs"),
        ({"tasks.variants_per_task": 5 * 10**5, "tasks.n_tasks": 20}, "training instances = "),
        ({"workers": 10**9}, r"workers = 1000000000: a pool of processes needs at least 100,000"),
        (
            {"clusters.n_init": 10**5, "clusters.cluster_seeds": 1000},
            r"clusters\.n_init = 100000: a clustering needs at least 16 GB of memory, and 8 GB are",
        ),
        (
            {"interventions.test_draws": 10**5, "model.n_embd": 1024},
            r"interventions\.test_draws = 100000: an edit needs at least 16 GB",
        ),
    ],
)
def test_a_run_beyond_the_memory_is_refused(changes: dict[str, Any], message: str) -> None:
    settings = load_settings("smoke", changes)
    with pytest.raises(InputError, match=f"^{message}.*free: (should be at most|lower other)"):
        check_memory_of(settings)
    with pytest.raises(InputError, match=f"^{message}"):
        make_plan(settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train.steps": 2**31 - 1, "checkpoints.every": 2**31 - 1},
            r"train\.steps = 2147483647: the run needs at least 2\d\d GB of disk, and 40 GB are fr",
        ),
        (
            {"train.steps": 10**6, "checkpoints.every": 10, "data.measured_instances": 400},
            r"train\.steps = 1000000: the run needs at least \d+ GB of disk",
        ),
        (
            {"data.measured_instances": 10**8},
            r"data\.measured_instances = 100000000: the run needs at least",
        ),
    ],
)
def test_a_run_beyond_the_disk_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    settings = load_settings("smoke", changes)
    with pytest.raises(InputError, match=f"^{message}"):
        check_run(settings, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train.steps": 10**9},
            "checkpoints.every = 20, train.steps = 1000000000: these are 5000",
        ),
        ({"clusters.n_init": 10**9}, "clusters.n_init = 1000000000: should be at most 100000"),
        ({"clusters.cluster_seeds": 2**31}, "clusters.cluster_seeds = .*: should be at most 1000"),
        (
            {"interventions.draws": 10**9},
            "interventions.draws = 1000000000: should be at most 1000",
        ),
        ({"measure.k": [10**5]}, r"measure.k.0 = 100000: should be at most 32767"),
        ({"model.n_layer": 10**9}, "model.n_layer = 1000000000: should be at most 10000"),
        ({"train.threads": 10**5}, "train.threads = 100000: should be at most 1024"),
        *(
            ({key: 2**31}, f"{key} = 2147483648: should be less than 2147483648")
            for key in (
                *("data.val_inputs", "data.measured_tasks", "data.measured_instances", "workers"),
                *("clusters.max_iter", "clusters.tsne_max_iter", "clusters.pca", "train.steps"),
                *("train.warmup_steps", "train.inputs_per_row", "checkpoints.every"),
                *("checkpoints.sparse_weights", "interventions.instances", "tasks.min_length"),
            )
        ),
    ],
)
def test_what_no_run_has_is_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_settings("smoke", changes)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train.steps": 100_000, "checkpoints.every": 5_000},
        {"model.n_layer": 24, "train.instructions_per_step": 8},
        {"clusters.n_init": 1_000, "clusters.cluster_seeds": 20},
        {"workers": 64, "train.threads": 64},
        {"interventions.test_draws": 9_999},
    ],
)
def test_presets_and_large_runs_that_fit_are_not_refused(
    preset: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    check_run(load_settings(preset, changes), tmp_path / "run")


def test_a_refused_run_leaves_no_directory(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError, match="n_embd = 100000"):
        run(load_settings("smoke", {"model.n_embd": 100_000}), out)
    assert not out.exists()
