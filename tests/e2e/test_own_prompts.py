"""A model run that names no prompts measures what the training run of its models has measured."""

import shutil
from pathlib import Path

import pytest

from e2e.conftest import Finished, assert_refused, call, succeed
from e2e.stock import Stock
from tasklens.core.errors import InputError
from tasklens.data.dataset import MEASURED
from tasklens.runs.own_prompts import with_own_prompts
from tasklens.runs.settings import ModelRunSettings


def files_of(*models: str | Path) -> tuple[str, ...]:
    subject = {"models": tuple(map(str, models))}
    return with_own_prompts(ModelRunSettings.from_table({"subject": subject})).prompts.files


def test_a_run_and_its_checkpoints_are_asked_the_measured_subsets(tiny: Finished) -> None:
    own = tuple(str(tiny.path / "data" / f"{name}.parquet") for name in MEASURED)
    checkpoints = tiny.path / "checkpoints"
    steps = sorted(checkpoints.iterdir())
    for models in ([tiny.path], [checkpoints], [steps[0]], [steps[0], steps[-1]]):
        assert files_of(*models) == own


def test_a_run_of_this_directory_is_known(tiny: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.path)
    assert files_of(".") == tuple(f"data/{name}.parquet" for name in MEASURED)


def test_other_models_are_asked_few_shot_prompts(
    tiny: Finished, stock: Stock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    another = shutil.copytree(tiny.path, tmp_path / "another")
    for models in (
        [stock.models],
        [stock.checkpoints[100]],
        ["organisation/name"],
        [tiny.path, another],
        [tiny.path, stock.models],
    ):
        assert files_of(*models) == ("few-shot",)
        assert capsys.readouterr().err == (
            "tasklens: measured are few-shot prompts, made for the tokenizer of the model, since "
            "--prompts names no file\n"
        )


def test_a_measured_subset_that_is_damaged_or_gone_is_named(copy: Path) -> None:
    file = copy / "data" / "val_subset.parquet"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"val_subset\.parquet is damaged: its SHA-256"):
        files_of(copy)
    file.unlink()
    assert_refused(call("probe", copy, "--dry-run"), f"{file} is gone")


def test_named_prompts_are_used(tiny: Finished, stock: Stock) -> None:
    model = stock.checkpoints[100]
    for named in (("--prompts", stock.prompts), ("--set", f"prompts.files=['{stock.prompts}']")):
        result = succeed("probe", model, *named, "--dry-run")
        assert "prompts: 48, with 4 labels" in result.out
        assert result.err == ""
    result = call("probe", tiny.path, "--prompts", stock.prompts, "--dry-run")
    assert_refused(result, "line 1: the tokenizer has no token for 'many', and none for unknown")
