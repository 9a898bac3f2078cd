"""`tasklens series`, and `probe` with revisions, against a stand-in for the hub on the loopback."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from e2e.conftest import Command
from e2e.stock import STEPS, Stock
from loopback_hub import Files, Hub, serving


@pytest.fixture
def hub(stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The checkpoints of the stock as revisions, of which two have the weights of the last."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def files(step: int) -> Files:
        return {path.name: path.read_bytes() for path in stock.checkpoints[step].iterdir()}

    with serving(monkeypatch) as served:
        served.branches["org/tiny"] = {
            "main": files(STEPS[1]),
            "step100": files(STEPS[0]),
            "step150": files(STEPS[1]),
            "step200": files(STEPS[1]),
        }
        yield served


def test_the_table_of_a_series_on_the_hub(hub: Hub, command: Command) -> None:
    result = command("series", "org/tiny")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].split() == ["revision", "step", "commit", "weights", "SHA-256", "odd"]
    assert [line.split()[0] for line in lines[1:5]] == ["step100", "step150", "step200", "main"]
    assert lines[2].endswith("same weights as main")
    assert lines[5] == ""
    assert lines[6].startswith("odd: step150, step200 have the weights of main (SHA-256 ")
    document = json.loads(command("series", "org/tiny", "--revision", "step200", "--json").out)
    (record,) = document["revisions"]
    weights = hub.branches["org/tiny"]["step200"]["model.safetensors"]
    assert (record["revision"], record["step"], record["tokens"]) == ("step200", 200, None)
    assert record["bytes"] == len(weights)
    assert (len(record["sha256"]), len(record["commit"]), document["odd"]) == (64, 40, [])
    assert hub.fetched == []


def test_the_address_is_that_of_the_environment(hub: Hub, tmp_path: Path) -> None:
    """huggingface_hub reads it once, so that this needs a process of its own."""
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "tasklens", "series", "org/tiny", "--revision", "all"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    assert "step150, step200 have the weights of main" in result.stdout


def test_the_table_of_a_series_on_the_disk(stock: Stock, command: Command, tmp_path: Path) -> None:
    models = shutil.copytree(stock.models, tmp_path / "models")
    shutil.copytree(models / "checkpoint-200", models / "checkpoint-300")
    result = command("series", models)
    assert result.status == 0
    assert result.err == "tasklens: 2 files may be equal: 0.000 GB are read\n"
    assert "checkpoint-300" in result.out
    assert "odd: checkpoint-200, checkpoint-300 have the same weights" in result.out
    refused = command("series", models, "--revision", "main")
    assert refused.status == 2
    assert "only the hub has revisions" in refused.err


def test_revisions_are_checked_before_the_first_is_fetched(
    stock: Stock, hub: Hub, command: Command, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    given = stock.command("--out", out, models="org/tiny")
    result = command(*given, "--revision", "step100,step300")
    assert result.status == 2
    error = "tasklens: error: org/tiny has no revision step300; the nearest is step"
    assert error in result.err
    assert hub.fetched == []
    assert not out.exists()
    result = command(*given, "--revision", "step100,step150,step200", "--states", "block1")
    assert result.status == 0, result.err
    assert "%|" not in result.err
    warning = "warning: org/tiny: step150, step200 have the same weights (SHA-256 "
    assert result.err.count(warning) == 1
