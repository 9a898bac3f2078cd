"""The numbers of docs/explanation are what the package computes."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from make_explanations import IMAGES, PAGES, figures, small_png, tables
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from tables.page import PLACED, filled
from worked.neighbours import facts
from worked.partitions import equal_tasks, matched, unequal_tasks
from worked.planted_states import planted
from worked.readers import effects, make_world, readers
from worked.regime import own_output
from worked.starts import ari

from tasklens.report.style import render
from tasklens.scoring.partition_agreement import agreement, contingency


@pytest.fixture(scope="module")
def computed() -> dict[str, dict[str, str]]:
    return tables()


NUMBER = re.compile(r"-?\d+\.\d+")


def test_every_table_is_what_the_package_computes(computed: dict[str, dict[str, str]]) -> None:
    """Another processor rounds sums otherwise, so that a near-tie of KMeans may end otherwise."""
    assert {path.stem for path in PAGES.glob("*.md")} >= set(computed)
    for name, each in computed.items():
        page = (PAGES / f"{name}.md").read_text()
        again = filled(page, each)
        assert NUMBER.sub("", again) == NUMBER.sub("", page), (
            "run: python docs/scripts/make_explanations.py"
        )
        before, after = ([float(x) for x in NUMBER.findall(text)] for text in (page, again))
        assert after == pytest.approx(before, abs=0.05)


def linked(page: Path) -> str:
    """Return the text of the pages that a page links to."""
    links = re.findall(r"\]\((?!https?:)([^)#\s]+\.md)", page.read_text())
    return "\n".join((page.parent / link).read_text() for link in set(links))


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_every_number_of_the_prose_is_in_a_table_or_on_a_linked_page(page: Path) -> None:
    text = page.read_text()
    tables_of_page = " ".join(match["table"] for match in PLACED.finditer(text))
    known = {*re.findall(r"\d\.\d\d+", tables_of_page + linked(page))}
    numbers = re.findall(
        r"\d\.\d\d+", re.sub(r"\(https?:[^)]*\)|doi [\d./a-z]+", "", PLACED.sub("", text))
    )
    assert [number for number in numbers if number not in known] == []


def test_figures_are_small_and_are_shown() -> None:
    shown = "".join(path.read_text() for path in PAGES.glob("*.md"))
    names = re.findall(r"\(\.\./images/(\w+)\.png\)", shown)
    for name in names:
        assert (IMAGES / f"{name}.png").stat().st_size < 60_000
    for name, figure in figures():
        assert name in names
        assert small_png(render(figure, "png")).startswith(b"\x89PNG")


# --- The examples are what the pages describe, by other means ---


@pytest.mark.parametrize("examples", [equal_tasks, unequal_tasks])
def test_agreement_of_the_examples_is_that_of_scikit_learn(examples: object) -> None:
    for name, task, cluster in examples():  # type: ignore[operator]
        scores = agreement(contingency(task, cluster))
        assert scores["ari"] == pytest.approx(adjusted_rand_score(task, cluster), abs=1e-12), name
        mutual = adjusted_mutual_info_score(task, cluster)
        assert scores["ami"] == pytest.approx(mutual, abs=1e-9), name


def test_the_share_of_misplaced_instances_is_as_described() -> None:
    shares = {
        name: matched(contingency(task, cluster))
        for name, task, cluster in equal_tasks()
        if name.startswith("one ")
    }
    assert [*shares.values()] == [0.9, 0.75, 0.5]


def test_the_lowest_ari_is_minus_a_half() -> None:
    """Two tasks of two, and clusters with one instance of each."""
    assert ari(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == -0.5


@pytest.mark.parametrize("scale", [0.5, 1.3])
def test_distances_of_planted_states_are_those_of_their_parts(scale: float) -> None:
    """A difference has twice the variance of the part that differs, and of the noise, a quarter."""
    world = planted(scale, seed=1)
    ratio = facts(world.states, world.task, world.input)["other task / other input"]
    assert ratio == pytest.approx(math.sqrt((1 + 0.25) / (scale**2 + 0.25)), rel=0.05)


def test_each_rule_that_reads_a_state_has_the_effects_of_what_it_reads() -> None:
    rules = {name: effects(*rule) for name, rule in readers(make_world()).items()}
    near, earlier, both, answer, unsigned = rules.values()
    assert min(near["shift"], near["patch"], near["patch_span"]) > 0.95
    assert max(value for name, value in earlier.items() if name != "ARI") == 0
    assert both["shift"] == pytest.approx(both["patch"], abs=0.1)
    assert 0.2 < both["shift"] < 0.8
    assert answer["shift"] < 0.05 < 0.95 < min(answer["patch"], answer["unembedding"])
    assert unsigned["shift"] < 0.05 < 0.95 < unsigned["patch"]
    assert max(each["random"] for each in rules.values()) < 0.05


@pytest.mark.parametrize(("outputs", "inputs"), [(24, 6), (96, 12), (480, 24)])
def test_the_chance_of_an_output_of_its_own_is_the_share_of_random_functions(
    outputs: int, inputs: int
) -> None:
    functions = np.random.default_rng(0).integers(outputs, size=(2000, 10, inputs))
    own, others = functions[:, 0, 0], functions[:, 1:]
    share = (own[:, None, None] != others).all(axis=(1, 2)).mean()
    assert own_output(outputs, inputs) == pytest.approx(share, abs=0.03)
