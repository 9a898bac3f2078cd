import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import examples
from tasklens.data.grammar import Grammar
from tasklens.data.random_tasks import draw_instructions, make_tasks
from tasklens.data.task_file import tasks_to_json
from tasklens.data.tasks import TaskSettings

pytestmark = pytest.mark.fuzz

few = examples(12)
steady = examples(80)

LENGTHS = (0, 5)
STRINGS = ["".join(s) for k in range(6) for s in itertools.product("abc", repeat=k)]

#: Regular expressions over a, b, c, from the whole of the supported syntax; never only "".
regexes = st.recursive(
    st.sampled_from(["a", "b", "c", "[ab]", "[a-c]", "ca", "a{0}b", "(a|)b", "(c|())"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("({0[0]}|{0[1]})".format),
        st.tuples(inner, st.sampled_from(["?", "*", "+", "{2}", "{1,}", "{0,2}", "{1,3}"])).map(
            "(?:{0[0]}){0[1]}".format
        ),
    ),
    max_leaves=7,
)


def language(regex: str) -> list[str]:
    return [string for string in STRINGS if re.fullmatch(regex, string)]


@steady
@given(regexes)
def test_the_language_is_that_of_re(regex: str) -> None:
    strings, grammar = language(regex), Grammar(regex)
    assert grammar.count(*LENGTHS) == len(strings)
    drawn = grammar.sample(len(strings), *LENGTHS, np.random.default_rng(0))
    assert sorted(drawn) == sorted(strings)


@steady
@given(regexes, regexes)
def test_disjoint_exactly_if_no_string_is_shared(one: str, other: str) -> None:
    shared = Grammar(one).shared_string(Grammar(other))
    common = [string for string in language(one) if re.fullmatch(other, string)]
    if common:
        assert shared == common[0]  # the shortest, then the first in order
    elif shared is not None:
        assert len(shared) > LENGTHS[1]
        assert re.fullmatch(one, shared)
        assert re.fullmatch(other, shared)


@few
@given(
    st.integers(2, 7),
    st.integers(1, 2),
    st.integers(4, 24),
    st.sampled_from(["abcde", "uvwxyz", "+-*/="]),
    st.integers(0, 2**62),
)
def test_task_sets(n_tasks: int, k: int, n_variants: int, symbols: str, seed: int) -> None:
    chosen = TaskSettings(
        n_tasks=n_tasks,
        symbols=symbols,
        min_length=4,
        max_length=9,
        distributions_per_task=k,
        variants_per_task=n_variants,
    )
    taskset = make_tasks(chosen, seed)
    assert tasks_to_json(taskset) == tasks_to_json(make_tasks(chosen, seed))
    drawn = draw_instructions(taskset, seed)
    assert drawn == draw_instructions(taskset, seed)
    assert len(drawn) == n_tasks * n_variants
    for i in range(n_tasks):
        strings = [each.text for each in drawn if each.task == i]
        assert len(set(strings)) == len(strings) == taskset.tasks[i].n_variants
        assert {len(string) for string in strings} <= set(range(4, 10))
        for j, task in enumerate(taskset.tasks):
            matches = [sum(bool(re.fullmatch(g.regex, s)) for s in strings) for g in task.grammars]
            assert sum(matches) == (len(strings) if j == i else 0)
            assert max(matches) - min(matches) <= 1, "each regular expression has its share"
