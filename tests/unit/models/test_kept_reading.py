"""Test that a resumed harvest has the same passes, whatever memory is free by then."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.company import mixed
from models.conftest import Limit
from models.families import family_model, made_prompts
from tasklens.data.token_prompts import at_once
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.runs.harvested_rows import PROGRESS, READING
from tasklens.runs.kept_reading import keep_reading
from tasklens.runs.states_on_disk import finish_harvest, harvest_to

NAMES = ("block2", "ln_f")
FILES = ("block2.npy", "ln_f.npy", "answer.npy")


class Interrupted(HuggingFaceSubject):
    """A Subject that stops after some batches."""

    stop_after: int | None = None

    def batches(self, *arguments: Any) -> Iterator[Any]:
        yield from islice(super().batches(*arguments), self.stop_after)
        if self.stop_after is not None:
            raise KeyboardInterrupt


def harvest(path: Path, max_tokens: int, stop_after: int | None = None) -> HuggingFaceSubject:
    path.mkdir(exist_ok=True)
    subject = Interrupted(family_model("llama"), max_tokens=max_tokens)
    subject.stop_after = stop_after
    keep_reading([path], subject)
    harvest_to([path], subject, mixed(), NAMES)
    return subject


@pytest.mark.parametrize("stop_after", [2, 4])
@pytest.mark.parametrize("damage", [None, b"", b"[" * 10**5, "missing", "flipped"])
def test_a_resumed_harvest_is_that_without_interruption_to_the_last_bit(
    tmp_path: Path,
    limit: Limit,
    stop_after: int,
    damage: bytes | str | None,
) -> None:
    """More memory is free than before. What is not known any more is read again."""

    def fits(rows: int, length: int) -> bool:
        return rows * length <= 40 or not little

    little = True
    limit(family_model("llama"), fits)
    whole = harvest(tmp_path / "whole", 100)
    assert whole.reading is not None
    assert len(whole.reading.max_tokens) > 1 or whole.reading.max_tokens[0][2] <= 50
    with pytest.raises(KeyboardInterrupt):
        harvest(tmp_path / "cut", 100, stop_after)
    kept = tmp_path / "cut" / READING
    if damage == "missing":
        kept.unlink()
    elif damage == "flipped":
        kept.write_text(kept.read_text().replace("padded", "padbed"))
    elif isinstance(damage, bytes):
        kept.write_bytes(damage)
    little = damage is not None  # the choice is made again, so that it has to be the same
    resumed = harvest(tmp_path / "cut", 100 if little else 10_000)
    assert resumed.reading == whole.reading
    for name in FILES:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    finish_harvest(tmp_path / "cut")
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {*FILES}


def test_passes_do_decide_the_last_bits(tmp_path: Path) -> None:
    subjects = [HuggingFaceSubject(family_model("llama"), max_tokens=n) for n in (30, 100)]
    one, other = (subject.harvest(made_prompts(), NAMES).states for subject in subjects)
    assert not np.array_equal(one["ln_f"], other["ln_f"])
    harvest(tmp_path / "a", 100)
    assert json.loads((tmp_path / "a" / READING).read_text())["reading"]["how"] == "in padded rows"


def test_another_number_of_threads_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        harvest(tmp_path / "a", 40, stop_after=1)
    capsys.readouterr()
    before = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: before + 1)
    harvest(tmp_path / "a", 40)
    begin = f"tasklens: reading resumes with {before + 1} threads, it began with {before}: the last"
    assert capsys.readouterr().err.startswith(begin)


def test_a_reading_of_other_positions_is_not_resumed(tmp_path: Path) -> None:
    """Its passes were longer or shorter, so that its rows may differ in their last bits."""
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.mkdir()
    prompts = at_once([mixed(), replace(mixed(), position=mixed().position // 2)])
    subject = Interrupted(family_model("llama"), max_tokens=40)
    subject.stop_after = 2
    keep_reading(paths, subject, ["a", "b"])
    with pytest.raises(KeyboardInterrupt):
        harvest_to(paths, subject, prompts, NAMES)
    keep_reading(paths, subject, ["a", "b"])
    assert subject.reading is not None
    assert all((path / PROGRESS).exists() for path in paths)
    keep_reading(paths[1:], subject, ["b"])
    assert subject.reading is None
    assert [(path / PROGRESS).exists() for path in paths] == [True, False]
    keep_reading(paths, subject, ["a", "b"])
    assert subject.reading is not None
