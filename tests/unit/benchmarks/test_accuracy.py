"""The recorded courses of `benchmarks/accuracy.py`: resumed, read by accuracy, and checked."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPTS = Path(__file__).parents[3] / "benchmarks"
OPTIONS = ["--preset", "smoke", "--threads", "1"]
RECIPE = ["batch_size=40", "steps=60", "warmup_steps=5"]


@pytest.fixture
def accuracy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Import the script, with a form of the reference that is not timed."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("accuracy")
    reference = importlib.import_module("reference")
    choice = reference.Choice(reference.Form("sdpa", bf16=False), fp32=1.0)
    monkeypatch.setattr(module, "best_form", lambda *_: choice)
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


def run(
    accuracy: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    *options: str,
    recipe: tuple[str, ...] = (),
) -> None:
    """Run the script with the options of a tiny preset."""
    monkeypatch.setattr(
        sys, "argv", ["accuracy.py", *OPTIONS, *options, "--recipe", *RECIPE, *recipe]
    )
    accuracy.main()


@pytest.mark.parametrize("name", ["ours", "reference"])
def test_an_interrupted_course_equals_an_uninterrupted_one(
    accuracy: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Training that stops after step 40 resumes at the look of step 25."""
    courses = importlib.import_module("courses")
    whole, stopped = tmp_path / "whole.json", tmp_path / "stopped.json"
    run(accuracy, monkeypatch, "--record", name, "--courses", str(whole))

    side = {"ours": accuracy.Ours, "reference": accuracy.Theirs}[name]
    with monkeypatch.context() as patch:
        step = side.step

        def step_or_stop(self: object) -> None:
            if self.trainer.step == 40:  # type: ignore[attr-defined]
                raise KeyboardInterrupt
            step(self)

        patch.setattr(side, "step", step_or_stop)
        with pytest.raises(KeyboardInterrupt):
            run(accuracy, monkeypatch, "--record", name, "--courses", str(stopped))
    assert list(courses.read(stopped)[name].looks) == [25]
    assert not courses.read(stopped)[name].is_finished

    run(accuracy, monkeypatch, "--record", name, "--courses", str(stopped))
    assert courses.read(stopped)[name].looks == courses.read(whole)[name].looks
    assert list(courses.read(whole)[name].looks) == [25, 50, 60]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped.json", "whole.json"]


def test_the_row_takes_recorded_steps_times_seconds_a_step(
    accuracy: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Known steps and seconds give a known ratio; courses of other settings are refused."""
    file, rows = tmp_path / "courses.json", tmp_path / "rows.jsonl"
    options = ["--courses", str(file), "--json", str(rows), "--goals", "0.9", "0.98"]
    with pytest.raises(SystemExit, match=r"no whole course of ours.*--record ours"):
        run(accuracy, monkeypatch, *options)

    courses = importlib.import_module("courses")
    settings = accuracy.settings_of("smoke", seed=accuracy.SEED)
    dataset = accuracy.make_dataset(settings.tasks, settings.data, seed=settings.seed)
    recipe = accuracy.Recipe.parsed(RECIPE)
    looks = {"ours": {25: 0.95, 50: 0.97, 60: 0.985}, "reference": {25: 0.5, 50: 0.9, 60: 0.97}}
    expected = {
        "ours": courses.expected_ours(settings, dataset),
        "reference": courses.expected_reference(settings, recipe),
    }
    for name, course in expected.items():
        course.looks = looks[name]
        courses.write(file, name, course)

    times = accuracy.StepTimes(
        ours=0.1,
        instances=60,
        micro_batch=6.368,  # 40 of 128 sequences take 1.99 s
        update=0.01,
        rounds=1,
        choice=accuracy.best_form(),
        tokens=2.0,
        their_tokens=16.0,
    )
    monkeypatch.setattr(accuracy, "time_steps", lambda *_, **__: times)
    run(accuracy, monkeypatch, *options)
    first, second = (json.loads(line) for line in rows.read_text().splitlines())
    assert [first[key] for key in ("ours", "theirs", "ratio")] == pytest.approx([2.5, 100, 40])
    assert [second[key] for key in ("ours", "theirs", "ratio")] == pytest.approx([6, 120, 20])
    assert "LOWER BOUND" in second["note"]
    assert "LOWER BOUND" not in first["note"]

    with pytest.raises(SystemExit, match="reference has other settings now"):
        run(accuracy, monkeypatch, *options, recipe=("batch_size=41",))
