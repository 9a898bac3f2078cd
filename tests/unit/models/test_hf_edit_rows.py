"""Rows of edits: each job is a path of tokens, in passes of limited size."""

import numpy as np
import pytest

from models.families import VOCABULARY, made_prompts
from models.plain_hooks import spans
from tasklens.data.edited_prompts import EditedPrompts, Ints
from tasklens.models.hf_edit_rows import EditArranger, EditRows
from tasklens.models.hf_rows import ALONE, EQUAL, PADDED, TREES

WAYS = (TREES, PADDED, EQUAL, ALONE)


def path(rows: EditRows, row: int, slot: int) -> list[int]:
    """Return the tokens that the token at a slot depends on, up to itself."""
    tokens = []
    while True:
        assert rows.is_read[row, slot]
        tokens.append(int(rows.ids[row, slot]))
        if rows.parent[row, slot] == slot:
            assert rows.depth[row, slot] == 0
            return tokens[::-1]
        assert rows.depth[row, slot] == rows.depth[row, rows.parent[row, slot]] + 1
        slot = int(rows.parent[row, slot])


@pytest.fixture(params=["last", "span"])
def prompts(request: pytest.FixtureRequest) -> EditedPrompts:
    alike = made_prompts(alike=True)
    return EditedPrompts(alike.ids, alike.position, *spans(request.param, alike.position))


@pytest.fixture
def jobs(prompts: EditedPrompts) -> tuple[Ints, Ints]:
    """Return the prompts of 70 jobs, and the tokens that follow them: none to two."""
    rng = np.random.default_rng(0)
    following = rng.integers(VOCABULARY, size=(70, 2))
    following[::3, 1] = following[::6, 0] = -1
    return rng.integers(len(prompts), size=70), following


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(("max_tokens", "max_jobs"), [(1, 1), (100, 5), (10_000, 1000)])
def test_every_job_is_a_path_of_the_tokens_that_it_reads(
    how: str,
    max_tokens: int,
    max_jobs: int,
    prompts: EditedPrompts,
    jobs: tuple[Ints, Ints],
) -> None:
    row, following = jobs
    arranger = EditArranger(how, prompts, following.shape[1])
    seen: list[int] = []
    for part in arranger.passes(row, following, max_tokens, max_jobs):
        rows = arranger.arrange(part, row, following)
        assert len(part) == 1 or (rows.ids.size <= max_tokens and len(rows.job) <= max_jobs)
        assert how != ALONE or len(rows.job) == 1
        assert how != EQUAL or rows.is_read.all()
        for j, job in enumerate(rows.job.tolist()):
            n = row[job]
            prompt = prompts.ids[n, : prompts.read[n] + 1].tolist()
            wanted = prompt + following[job][following[job] >= 0].tolist()
            slots = rows.slot[j]
            assert path(rows, rows.row[j], slots[-1]) == wanted
            read = slots[arranger.last[n]]
            assert path(rows, rows.row[j], read) == prompt
            assert rows.prompt[rows.row[j], read] == n
            assert len(path(rows, rows.row[j], slots[0])) == prompts.begin[n] + 1
            assert how == TREES or slots[0] == prompts.begin[n]
        seen += rows.job.tolist()
    assert sorted(seen) == list(range(70))


def test_trees_read_a_prefix_once_for_several_jobs(
    prompts: EditedPrompts, jobs: tuple[Ints, Ints]
) -> None:
    n_read = {}
    for how in (TREES, PADDED):
        arranger = EditArranger(how, prompts, 2)
        passes = arranger.passes(*jobs, 10_000, 1000)
        n_read[how] = sum(int(arranger.arrange(part, *jobs).is_read.sum()) for part in passes)
    is_last = bool((prompts.begin == prompts.read).all())
    assert n_read[TREES] < (0.4 if is_last else 1) * n_read[PADDED]
