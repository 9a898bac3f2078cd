"""The table of a series: steps, tokens and stages in names, and what is odd."""

import pytest

from tasklens.models.series_steps import step_in
from tasklens.models.series_table import (
    Revision,
    doubts_of_each,
    doubts_of_series,
    equal_weights,
    in_order,
)


def revision(name: str, sha256: str = "", **more: object) -> Revision:
    """Return a revision with weights of its own, unless they are named."""
    known: dict[str, object] = {"size": 8, "hashes": (sha256 or name,), **more}
    return Revision(name, step_in(name), **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "step", "tokens", "stage"),
    [
        ("step1000", 1000, None, ""),
        ("stage1-step101000-tokens424B", 101000, 424 * 10**9, "stage1"),
        ("stage2-ingredient1-step23852-tokens51B", 23852, 51 * 10**9, "stage2-ingredient1"),
        ("step1000-tokens4B", 1000, 4 * 10**9, ""),
        ("tokens2.5M-step-30", 30, 2_500_000, ""),
        ("ckpt_12", 12, None, ""),
        ("global_step7_2T_tokens", 7, 2 * 10**12, ""),
        ("main", None, None, "main"),
        ("step50K", None, None, "step50K"),
        ("143000", 143000, None, ""),
    ],
)
def test_step_tokens_and_stage_are_read_from_the_name(
    name: str, step: int | None, tokens: int | None, stage: str
) -> None:
    read = revision(name)
    assert (read.step, read.tokens, read.stage) == (step, tokens, stage)


def test_the_order_is_that_of_stages_and_steps() -> None:
    names = ["main", "step10", "stage2-step1", "step9", "stage1-step20", "notes"]
    ordered = ["step9", "step10", "stage1-step20", "stage2-step1", "main", "notes"]
    assert [r.name for r in in_order(map(revision, names))] == ordered


def test_the_weights_of_main_in_other_steps_are_odd() -> None:
    """As 76 of the 154 steps of Pythia 2.8B have them (issue 205 of its repository)."""
    names = [f"step{n}" for n in (0, 1, 2, 4, 1000, 2000, 3000)]
    series = [revision(name, "final" if name in ("step2", "step4") else "") for name in names]
    series += [revision("step4000", "final"), revision("main", "final")]
    sentence = (
        "step2, step4, step4000 have the weights of main (SHA-256 final): one of these 4 is enough"
    )
    assert doubts_of_series(series) == equal_weights(series) == [sentence]
    odd = dict(zip([r.name for r in series], doubts_of_each(series), strict=True))
    assert {name for name, each in odd.items() if each} == {"step2", "step4", "step4000"}
    assert odd["step2"] == ["same weights as main"]


def test_a_file_of_another_step_is_odd() -> None:
    """As two steps of Pythia 12B have the first file of the last one (issue 206)."""
    hashes = {step: (f"first{step}", f"second{step}") for step in (1, 2, 3, 4)}
    hashes[2] = ("first4", "second2")
    series = [revision(f"step{step}", hashes=each) for step, each in hashes.items()]
    series.append(revision("main", hashes=hashes[4]))
    sentence = (
        "step2, step4, main share 1 of their files of weights (SHA-256 first4): a part of another "
        "step?"
    )
    assert doubts_of_series(series) == [sentence]
    assert sentence in equal_weights(series)
    frozen = [revision(f"step{n}", hashes=("a", "b", f"own{n}")) for n in (1, 2)]
    (one,) = doubts_of_series(frozen)
    assert one.startswith("step1, step2 share 2 of their files of weights (SHA-256 a, b)")


def test_equal_weights_without_main() -> None:
    """As three branches of OLMo 2 have them (issue 915 of its repository)."""
    names = [f"stage1-step{n}-tokens{n}B" for n in (101, 102, 175, 300)]
    series = [revision(name, "" if "102" in name else "f9acbd5400251483") for name in names]
    (sentence,) = doubts_of_series(series)
    assert sentence == (
        f"{names[0]}, {names[2]}, {names[3]} have the same weights (SHA-256 f9acbd540025): one of "
        "these 3 is enough"
    )
    assert doubts_of_each(series)[2:] == [[f"same weights as {names[0]}"]] * 2


def test_a_whole_series_is_not_odd() -> None:
    """Pythia's steps are powers of two first; main is the last step."""
    steps = [0, *(2**n for n in range(10)), *range(1000, 5000, 1000)]
    series = [revision(f"step{n}") for n in steps]
    series.append(revision("main", series[-1].sha256))
    assert doubts_of_series(series) == []
    assert doubts_of_each(series) == [[]] * len(series)
    (sentence,) = equal_weights(series)
    assert sentence.startswith("step4000 has the weights of main"), "both need not be measured"


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["step1000", "step2000", "step4000"], "1 step is missing: 3000"),
        (
            [f"stage1-step{n}" for n in (*range(1000, 5000, 1000), 8000)],
            "3 steps of stage1 are missing: 5000, 6000, 7000",
        ),
        (
            ["step1-tokens2B", "step2-tokens5B", "step3-tokens4B"],
            "step3-tokens4B has fewer tokens than step2-tokens5B, which is an earlier step: one of "
            "the names is wrong",
        ),
        (["step1", "step2", "step-2"], "step-2, step2 are all of step 2"),
        (["step1", "step2", "final", "best"], "best, final: the name has no step"),
    ],
)
def test_what_is_odd_about_the_steps(names: list[str], sentence: str) -> None:
    if sentence.startswith("1 step"):
        names = [*names, "step5000"]
    assert doubts_of_series([*map(revision, names)]) == [sentence]


def test_stages_have_steps_of_their_own() -> None:
    names = [f"stage{stage}-step{n}-tokens{n}B" for stage in (1, 2) for n in (10, 20, 30)]
    assert doubts_of_series([*map(revision, names)]) == []


def test_missing_and_small_weights_and_other_steps_are_odd() -> None:
    series = [
        revision("step1", size=0, hashes=()),
        revision("step2", plain=("model.safetensors",)),
        revision("step3", notes=("step3: another step",)),
    ]
    assert doubts_of_series(series) == [
        "step1: no weights that tasklens reads",
        "step2: model.safetensors is not in Git LFS: should be, since weights are large; is it a "
        "pointer to other weights?",
        "step3: another step",
    ]
    assert doubts_of_each(series) == [["no weights"], ["not in LFS"], []]


def test_many_names_are_shortened() -> None:
    (sentence,) = doubts_of_series([revision(f"step{n}", "same") for n in range(1, 21)])
    assert sentence.startswith("step1, step2, step3, step4, step5, step6 and 14 more have the same")
