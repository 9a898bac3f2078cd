import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects

from tasklens.core.errors import InputError
from tasklens.core.files import digest
from tasklens.models.checkpoint_series import (
    Checkpoint,
    fetch,
    find_checkpoints,
    identity,
    step_notes,
    step_of,
)
from tasklens.models.lr_schedule import checkpoint_steps
from tasklens.models.series_steps import missing_steps
from tasklens.runs.directory import RunDir


def model(path: Path, step: int | None = None, trainer: int | None = None) -> Path:
    """Make a directory like a model's, with a step in its configuration or trainer state."""
    path.mkdir(parents=True)
    ours = {} if step is None else {"tasklens": {"step": step}}
    (path / "config.json").write_text(json.dumps({"model_type": "gpt2", **ours}))
    if trainer is not None:
        (path / "trainer_state.json").write_text(json.dumps({"global_step": trainer}))
    return path


def series_of(*models: Path | str, revisions: Sequence[str] = ()) -> list[tuple[int, str]]:
    """Return the steps and the names of the directories, or the names on the hub."""
    checkpoints = find_checkpoints([str(m) for m in models], revisions)
    for checkpoint in checkpoints:
        if checkpoint.directory is not None:
            assert checkpoint.name == str(checkpoint.directory)
            assert (checkpoint.directory / "config.json").is_file()
    return [(c.step, c.directory.name if c.directory else c.name) for c in checkpoints]


def notes_of(*models: Path | str, revisions: Sequence[str] = ()) -> list[str]:
    return step_notes(find_checkpoints([str(m) for m in models], revisions))


def error_of(*models: Path | str, revisions: Sequence[str] = ()) -> str:
    with pytest.raises(InputError) as error:
        find_checkpoints([str(m) for m in models], revisions)
    assert "\n" not in str(error.value)
    return str(error.value)


# -- directories ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["checkpoint-{}", "step-{:05d}", "step{}", "global_step{}"])
def test_a_series_is_in_the_order_of_its_steps(tmp_path: Path, form: str) -> None:
    steps = (5, 10, 9, 1000, 200, 0)
    for step in steps:
        model(tmp_path / form.format(step))
    best = model(tmp_path / "best")
    (best / "runs").mkdir()
    assert find_checkpoints([str(best)]) == [Checkpoint(1, str(best), best)]
    (tmp_path / "checkpoint-7.txt").write_text("")
    (tmp_path / "step-8").write_text("a file")
    assert series_of(tmp_path) == [(step, form.format(step)) for step in sorted(steps)]


def test_a_directory_with_checkpoints_in_it_is_a_series(tmp_path: Path) -> None:
    model(tmp_path / "out")  # as Trainer.save_model leaves its last one
    run = RunDir(tmp_path / "run")
    for step in (64, 0, 128):
        model(tmp_path / "out" / f"checkpoint-{step}")
        model(run.checkpoint(step), step=step)
    steps = (0, 64, 128)
    assert series_of(tmp_path / "out") == [(step, f"checkpoint-{step}") for step in steps]
    assert series_of(run.path) == [(step, run.checkpoint(step).name) for step in steps]
    assert series_of(run.checkpoints) == series_of(run.path)
    assert series_of(run.checkpoint(64)) == [(64, run.checkpoint(64).name)]


def test_links_to_a_store_have_the_steps_of_their_own_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As DVC, git-annex and the cache of the hub keep them: the store's names are hashes."""
    store, out = tmp_path / "store", tmp_path / "out"
    out.mkdir()
    for step, name in ((5, "c0ffee"), (10, "ab12"), (9, "f00d"), (1000, "00aa")):
        model(store / name)
        (out / f"checkpoint-{step}").symlink_to(store / name)
    expected = [(step, f"checkpoint-{step}") for step in (5, 9, 10, 1000)]
    assert series_of(out) == series_of(*out.iterdir()) == expected
    assert series_of(*sorted(f"{path}/" for path in out.iterdir())) == expected
    assert notes_of(out) == []
    # A link without a number has the step of what it links to.
    last = tmp_path / "last"
    model(store / "step_77")
    last.symlink_to(store / "step_77")
    assert series_of(last, out / "checkpoint-5") == [(5, "checkpoint-5"), (77, "last")]
    monkeypatch.chdir(out / "checkpoint-9")
    assert find_checkpoints(["."])[0].step == 1, "the directory is that of the store"
    monkeypatch.chdir(store / "step_77")
    assert (find_checkpoints(["."])[0].step, step_of(Path())) == (77, 77)
    # If both have a number, the first counts, and a line has the other.
    renamed = tmp_path / "checkpoint-3"
    renamed.symlink_to(store / "step_77")
    assert notes_of(renamed) == [
        f"{renamed}: step 3 by its name is used, but it is 77 by the name that it links to"
    ]
    (out / "step-9").symlink_to(store / "f00d")
    assert error_of(out).endswith("are the same model; name it once")


NAMED = {
    **{"checkpoint-500": 500, "Checkpoint-500": 500, "STEP_20": 20, "step1000": 1000, "step=7": 7},
    **{"step-00000016": 16, "global_step100": 100, "global-step-100": 100, "globalstep4": 4},
    **{"iter_0000100": 100, "iter-100-ckpt": 100, "ckpt_3": 3, "checkpoint-1000-merged": 1000},
    **{"step1000-unsharded": 1000, "stage1-step-5000-tokens11B": 5000, "step1000-tokens4B": 1000},
    **{"stage2-ingredient1-step3000-tokens13B": 3000, "pythia-70m-step64": 64, "1000": 1000},
    **{"epoch=3-step=1200.ckpt": 1200, "checkpoint-3-step-1200": 1200, "ep0-ba40-rank0": 40},
    # A number of other things is no step.
    **dict.fromkeys(["step10k", "step-1M", "tokens-4B", "v2", "llama-2-7b", "step1.5", "gpt2"]),
    **dict.fromkeys(["epoch3", "2024-11-27", "20241127", "step100-step200", "misstep4", "base-2"]),
    **dict.fromkeys(["0123456", "1234567890", "8f5c0d1e2a3b4c5d6e7f8091a2b3c4d5e6f70819"]),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_the_step_in_a_name(tmp_path: Path, name: str) -> None:
    """The rule is one for directories, revisions and names on the hub."""
    assert step_of(model(tmp_path / name)) == NAMED[name]
    other = model(tmp_path / "other" / "checkpoint-7777777")
    known = NAMED[name] is not None
    for models, revisions in (((other, tmp_path / name), ()), (("o/n",), ("step7777777", name))):
        steps = [step for step, _ in series_of(*models, revisions=revisions)]
        assert steps == ([NAMED[name], 7777777] if known else [1, 2])
        assert len(notes_of(*models, revisions=revisions)) == (not known)
    if "=" not in name:
        assert find_checkpoints([f"org/{name}"])[0].step == (NAMED[name] if known else 1)


def test_epochs_order_a_series_that_has_no_steps(tmp_path: Path) -> None:
    epochs = [model(tmp_path / f"epoch{epoch}") for epoch in (10, 1, 2)]
    assert series_of(*epochs) == [(1, "epoch1"), (2, "epoch2"), (10, "epoch10")]
    assert notes_of(*epochs) == [
        "the steps of the models are unknown; their numbers are those of the epochs"
    ]
    best = model(tmp_path / "best")
    assert [step for step, _ in series_of(*epochs, best)] == [1, 2, 3, 4]
    assert "is unknown: the models are numbered 1 to 4" in notes_of(*epochs, best)[0]
    trained = [model(tmp_path / "t" / f"epoch_{n}", trainer=n * 50) for n in (10, 9)]
    assert [step for step, _ in series_of(*trained)] == [450, 500]


def test_steps_that_begin_again_in_a_stage_are_no_order() -> None:
    revisions = [
        "stage1-step9000-tokens9B",
        "stage1-step10000-tokens10B",
        "stage2-step500-tokens1B",
    ]
    assert [step for step, _ in series_of("o/n", revisions=revisions)] == [1, 2, 3]
    assert notes_of("o/n", revisions=revisions) == [
        "each stage has its steps: the models are numbered 1 to 3 in the order given"
    ]
    assert [step for step, _ in series_of("o/n", revisions=revisions[:2])] == [9000, 10000]


def test_the_state_of_an_optimiser_is_no_checkpoint(tmp_path: Path) -> None:
    """DeepSpeed keeps it in the checkpoint, in a directory that has no model."""
    for step in (2, 10):
        (model(tmp_path / f"checkpoint-{step}") / f"global_step{step}").mkdir()
    assert series_of(tmp_path) == [(2, "checkpoint-2"), (10, "checkpoint-10")]
    assert series_of(tmp_path / "checkpoint-2") == [(2, "checkpoint-2")]
    (tmp_path / "checkpoint-10" / "global_step9").mkdir()
    assert series_of(tmp_path / "checkpoint-10") == [(10, "checkpoint-10")]
    (tmp_path / "global_step10").mkdir()
    assert len(series_of(tmp_path)) == 2
    (model(tmp_path / "out") / "checkpoint-1").mkdir()
    assert error_of(tmp_path / "out").endswith("has no config.json; is the checkpoint incomplete?")


def test_several_directories_with_steps_are_put_in_order(tmp_path: Path) -> None:
    late, early = model(tmp_path / "a" / "checkpoint-300"), model(tmp_path / "b" / "checkpoint-20")
    ours = model(tmp_path / "ours", step=100)
    trained = model(tmp_path / "trained", step=7, trainer=200)
    expected = [(20, "checkpoint-20"), (100, "ours"), (200, "trained"), (300, "checkpoint-300")]
    assert (
        series_of(late, ours, trained, early) == series_of(early, late, trained, ours) == expected
    )
    named = model(tmp_path / "checkpoint-50", trainer=60)
    assert series_of(named) == [(50, "checkpoint-50")], "its name goes before what is in it"
    assert notes_of(named) == [
        f"{named}: step 50 by its name is used, but it is 60 by trainer_state.json"
    ]
    assert notes_of(trained) == [
        f"{trained}: step 200 by trainer_state.json is used, but it is 7 by config.json"
    ]
    assert notes_of(late, ours, early) == []


def test_if_one_has_no_step_all_are_numbered_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order in which a file system lists a directory."""
    late, none = model(tmp_path / "checkpoint-300"), model(tmp_path / "base")
    assert series_of(late, none) == [(1, "checkpoint-300"), (2, "base")]
    numbered = "the models are numbered 1 to 2 in the order given"
    assert notes_of(late, none) == [f"the step of {none} is unknown: {numbered}"]
    other = model(tmp_path / "other")
    assert notes_of(other, none) == [f"the step of {other} (and 1 more) is unknown: {numbered}"]
    assert notes_of(none) == [], "a single model needs no order"
    for step in (100, 20, 3):
        model(tmp_path / "run" / f"checkpoint-{step}")
    expected = [(1, "base"), (2, "checkpoint-3"), (3, "checkpoint-20"), (4, "checkpoint-100")]
    listed = Path.iterdir
    for turned in (True, False):
        monkeypatch.setattr(Path, "iterdir", lambda p, r=turned: sorted(listed(p), reverse=r))
        assert series_of(none, tmp_path / "run") == expected


@pytest.mark.parametrize(
    "content", ['{"epoch": 1}', '{"global_step": null}', '{"global_step": "many"}', "[1]", "1", "{"]
)
def test_a_trainers_state_without_a_step_gives_none(tmp_path: Path, content: str) -> None:
    for step, name in ((None, "a"), (9, "b")):
        (model(tmp_path / name, step=step) / "trainer_state.json").write_text(content)
        assert series_of(tmp_path / name) == [(step or 1, name)]


def test_two_of_one_step_and_directories_without_a_whole_model_are_refused(tmp_path: Path) -> None:
    first, second = model(tmp_path / "a" / "checkpoint-8"), model(tmp_path / "b" / "step-8")
    other = model(tmp_path / "c" / "checkpoint-3")
    both = f"{first} and {second} are both of step 8; measure each series by itself"
    assert error_of(first, other, second) == both
    for same in (other, f"{other}/", other / ".." / other.name):
        assert "are the same model; name it once" in error_of(other, same)
    message = (
        f"{tmp_path}: has neither a model (config.json or a GGUF file) nor checkpoint-N directories"
    )
    assert error_of(tmp_path) == message
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "model.safetensors").write_text("")
    assert error_of(tmp_path) == message
    model(tmp_path / "checkpoint-1")
    (tmp_path / "checkpoint-2").mkdir()
    first, second = tmp_path / "checkpoint-1", tmp_path / "checkpoint-2"
    assert error_of(tmp_path) == f"{second}: has no config.json; is the checkpoint incomplete?"
    why = f"{first} is on the disk; only the hub has revisions"
    assert error_of(first, revisions=["main"]) == f"--revision: {why}"


# -- names on the hub -----------------------------------------------------------------------------


def test_a_name_on_the_hub_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("gpt2", "EleutherAI/pythia-70m", "a.b_c/d-e.f"):
        assert find_checkpoints([name]) == [Checkpoint(1, name, None, name)]
    assert series_of("gpt2", "EleutherAI/pythia-70m") == [(1, "gpt2"), (2, "EleutherAI/pythia-70m")]
    model(tmp_path / "gpt2", step=3)
    assert series_of("gpt2") == [(3, "gpt2")], "a directory of that name goes before"


def test_what_looks_like_a_path_is_no_name_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    inside = ("runs/x", "./x", "../x", "/x", "/a/b/c", "a/b/c", "~/x", "~no-such-user/x")
    for path in (*inside, "x/", "a b", ".hidden", "a\\b"):
        right = "give a model's directory, a run directory, or a name on the hub"
        assert error_of(path) == f"{path}: is not a directory; {right}"
    assert series_of("run/x") == [(1, "run/x")], "no such directory, so it may be on the hub"


def test_revisions_have_the_step_of_their_name() -> None:
    name = "EleutherAI/pythia-70m"
    checkpoints = find_checkpoints([name], ["step1000", "step64", "step-0"])
    assert checkpoints == [
        Checkpoint(step, f"{name}@{revision}", None, name, revision)
        for step, revision in ((0, "step-0"), (64, "step64"), (1000, "step1000"))
    ]
    assert series_of(name, revisions=["step9", "main", "step3"]) == [
        (1, f"{name}@step9"), (2, f"{name}@main"), (3, f"{name}@step3"),
    ]  # fmt: skip
    assert series_of(name, revisions=["v2.0-final"]) == [(1, f"{name}@v2.0-final")]
    assert "are the same model; name it once" in error_of(name, revisions=["step1", "step1"])
    assert "are the same model; name it once" in error_of("gpt2", "gpt2")
    assert error_of(name, revisions=["step1", "new-step1"]) == (
        f"{name}@step1 and {name}@new-step1 are both of step 1; measure each series by itself"
    )


# -- what a series lacks --------------------------------------------------------------------------

PYTHIA = (0, *(2**i for i in range(10)), *range(1000, 143_001, 1000))


def without(steps: Sequence[int], *missing: int) -> list[int]:
    assert set(missing) <= set(steps)
    return [step for step in steps if step not in missing]


@pytest.mark.parametrize(
    ("steps", "missing"),
    [
        (range(0, 1000, 100), []),
        (without(range(0, 1000, 100), 300), [300]),
        (without(range(100, 1000, 100), 300, 400, 800), [300, 400, 800]),
        (without(range(0, 7001, 7), 7, 6993), [7, 6993]),
        ([500, 1000, 2000, 2500], [1500]),
        (PYTHIA, []),
        (without(PYTHIA, 2000), [2000]),
        (without(PYTHIA, 77_000, 78_000, 142_000), [77_000, 78_000, 142_000]),
        (PYTHIA[11:], []),
        *((without(checkpoint_steps(20_000, 500), n), [n]) for n in (1000, 7500, 19_500)),
        # nothing tells that there was one
        (without(checkpoint_steps(20_000, 500), 128), []),
        # the last one wherever training ended
        ([*range(0, 1001, 100), 1034], []),
        # too few to tell
        ([], []),
        ([8], []),
        ([0, 500], []),
        ([0, 100, 300], []),
        # uneven, all gaps of their own
        ([0, 10, 30, 70, 150, 310], []),
        ([3, 17, 20, 90, 1000], []),
        ([0, 1, 2, 4, 8, 16, 32, 64, 128], []),
    ],
)
def test_steps_that_a_series_lacks(steps: Sequence[int], missing: list[int]) -> None:
    assert missing_steps(steps) == missing


def test_our_own_series_and_the_beginning_of_a_series_lack_nothing() -> None:
    for total, every in ((20_000, 500), (3000, 128), (640, 64), (1000, 100), (1050, 100)):
        assert missing_steps(checkpoint_steps(total, every)) == []
    for series in (PYTHIA, checkpoint_steps(3000, 128)):
        assert [n for n in range(len(series) + 1) if missing_steps(series[:n])] == []


# -- fetching -------------------------------------------------------------------------------------

HUB = (
    *("config.json", "tokenizer.json", "merges.txt", "spiece.model", "modeling_mine.py"),
    *(
        "optimizer.safetensors",
        "scheduler.bin",
        "README.md",
        "onnx/config.json",
        "onnx/model.safetensors",
        "flax_model.msgpack",
    ),
)


SMALL = {"README.md", "config.json", "tokenizer.json", "merges.txt", "spiece.model"}
ON_HUB = Checkpoint(64, "owner/name@step64", None, "owner/name", "step64")
SHARDS = (
    *("model-00001-of-2.safetensors", "model-00002-of-2.safetensors"),
    "model.safetensors.index.json",
)


@pytest.mark.parametrize(
    ("weights", "trust", "fetched"),
    [
        (("pytorch_model.bin", *SHARDS), False, {*SHARDS}),
        (("model.safetensors",), True, {"model.safetensors", "modeling_mine.py"}),
        (("pytorch_model.bin",), False, {"pytorch_model.bin"}),
    ],
)
def test_safe_weights_are_fetched_if_there_are_any_and_code_if_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Any, trust: bool, fetched: set[str]
) -> None:
    """The hub of this test gives the files of a repository that match the patterns."""
    cache = tmp_path / "cache"
    asked: list[tuple[str, str, bool]] = []

    def give(repository: str, *, revision: str, **patterns: list[str]) -> str:
        asked.append((repository, revision, "pytorch_model*.bin" in patterns["allow_patterns"]))
        for name in filter_repo_objects([*HUB, *weights], **patterns):
            (cache / name).parent.mkdir(parents=True, exist_ok=True)
            (cache / name).write_text(name)
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", give)
    assert fetch(Checkpoint(1, "x", tmp_path)) == tmp_path
    assert asked == [], "a directory is not asked for"
    assert fetch(ON_HUB, trust_remote_code=trust) == cache
    files = {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()}
    assert files == SMALL | fetched
    tries = [False, True] if fetched == {"pytorch_model.bin"} else [False]
    assert asked == [("owner/name", "step64", bins) for bins in tries], "if none are safe"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("\n\n404: no such thing\nRequest ID: 7\n"), "404: no such thing"),
        (ValueError(), "ValueError"),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Mock(side_effect=error))
    message = "owner/name@step64: is not a directory, and cannot be fetched from the hub"
    with pytest.raises(InputError, match=f"^{message}: {line}$"):
        fetch(ON_HUB)


# -- identity -------------------------------------------------------------------------------------


def test_a_directory_is_another_if_one_of_its_files_is(tmp_path: Path) -> None:
    directory = model(tmp_path / "a", step=3)
    weights = directory / "model.safetensors"
    weights.write_bytes(b"first")
    for path in directory.iterdir():
        os.utime(path, ns=(0, 10**18))

    def now(step: int = 3, name: str = "a") -> str:
        return digest(identity(Checkpoint(step, name, directory)))

    first = now()
    os.utime(weights, ns=(10**18, 10**18))  # read later
    (directory / "deep").mkdir()
    (directory / "deep" / "events").write_text("logs")
    assert now() == now(name="other") == first
    directory = directory.rename(tmp_path / "moved")
    assert now() == first
    weights, other = directory / weights.name, directory / "model2.safetensors"
    seen = {first, now(step=4)}

    def lengthen() -> None:
        weights.write_bytes(b"longer than the first")
        os.utime(weights, ns=(0, 10**18))

    for change in (
        lambda: os.utime(weights, ns=(10**18, 10**18 + 1)),
        lengthen,
        lambda: weights.rename(other),
        lambda: other.unlink(),
    ):
        change()
        seen.add(now())
    assert len(seen) == 6


def test_on_the_hub_the_name_and_the_revision_are_all() -> None:
    def of_hub(step: int, repository: str, revision: str | None, name: str = "") -> str:
        return digest(identity(Checkpoint(step, name, None, repository, revision)))

    several = [(1, "a/b", None), (2, "a/b", None), (1, "a/c", None), (1, "a/b", "main")]
    assert len({of_hub(*values) for values in several}) == 4
    assert of_hub(1, "a/b", "main") == of_hub(1, "a/b", "main", name="other")


# -- stages of one model --------------------------------------------------------------------------


def stages_of(**models: Path | str) -> list[Checkpoint]:
    return find_checkpoints([str(m) for m in models.values()], stages=tuple(models))


def test_stages_are_in_the_order_given_whatever_their_steps(tmp_path: Path) -> None:
    late, early = model(tmp_path / "checkpoint-900"), model(tmp_path / "a=b" / "step-3")
    series = stages_of(base=late, sft=early)
    assert [(c.step, c.called, c.directory) for c in series] == [
        (1, "base", late), (2, "sft", early),
    ]  # fmt: skip
    assert not any(c.is_training_step or c.notes for c in series)
    twice = stages_of(base=late, again=late)
    assert [c.called for c in twice] == ["base", "again"], "a control: no difference"
    twin, *rest = find_checkpoints([str(late)], stages=("base",), untrained=True)
    assert (twin.step, twin.called, twin.untrained) == (0, "", True)
    assert [c.called for c in rest] == ["base"]


def test_a_stage_is_a_single_model(tmp_path: Path) -> None:
    series = tmp_path / "series"
    model(series / "checkpoint-1"), model(series / "checkpoint-2")
    with pytest.raises(InputError, match="stage sft has 2 checkpoints: should be a single model"):
        stages_of(base="gpt2", sft=series)


def test_a_name_on_the_hub_may_have_a_revision() -> None:
    name = "EleutherAI/pythia-70m"
    assert stages_of(early=f"{name}@step1000", late=name) == [
        Checkpoint(1, f"{name}@step1000", None, name, "step1000", called="early"),
        Checkpoint(2, name, None, name, called="late"),
    ]
    assert series_of(f"{name}@step64", f"{name}@step8") == [
        (8, f"{name}@step8"), (64, f"{name}@step64"),
    ]  # fmt: skip
    assert error_of(f"{name}@step1", revisions=["main"]).endswith("leave out one of the two")
    assert "is not a directory" in error_of(f"{name}@")
