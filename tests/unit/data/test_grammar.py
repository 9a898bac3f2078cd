import itertools
import re
from collections import Counter

import numpy as np
import pytest
from automata.fa.dfa import DFA
from automata.fa.nfa import NFA
from scipy.stats import chisquare

from tasklens.core.errors import InputError
from tasklens.data.automaton import MAX_STATES
from tasklens.data.grammar import Grammar, random_grammars, random_regex


def brute_force(regex: str, symbols: str, min_length: int, max_length: int) -> list[str]:
    """Return all strings of these lengths that `re` accepts, shortest first, then in order."""
    lengths = range(min_length, max_length + 1)
    strings = ("".join(s) for k in lengths for s in itertools.product(sorted(symbols), repeat=k))
    return [string for string in strings if re.fullmatch(regex, string)]


@pytest.mark.parametrize(
    "regex",
    ["((a*)*|b)*c{0}", r"\(a\)|\.[\]\^\-a-c]", "a-b|#&~", "(a?b?){2,3}c", "((a|b)?c{0,2}){2}"],
)
def test_odd_languages_are_those_of_re(regex: str) -> None:
    symbols, longest = ("abc().]^-#&~", 3) if set(regex) & set("\\&") else ("abc", 6)
    grammar = Grammar(regex)
    strings = brute_force(regex, symbols, 0, longest)
    assert grammar.count(0, longest) == len(strings)
    drawn = grammar.sample(len(strings), 0, longest, np.random.default_rng(0))
    assert sorted(drawn) == sorted(strings)


def test_random_languages_are_those_of_automata_lib() -> None:
    rng = np.random.default_rng(0)
    regexes = [random_regex(rng, "abc", int(rng.integers(2, 9))) for _ in range(40)]
    ours = [Grammar(regex) for regex in regexes]
    theirs = [DFA.from_nfa(NFA.from_regex(regex, input_symbols=set("abc"))) for regex in regexes]
    for grammar, dfa in zip(ours, theirs, strict=True):
        assert grammar.counts(0, 20) == [dfa.count_words_of_length(k) for k in range(21)]
    met = 0
    for i, j in itertools.combinations(range(len(ours)), 2):
        disjoint = theirs[i].isdisjoint(theirs[j])
        assert (ours[i].shared_string(ours[j]) is None) == disjoint
        met += not disjoint
    assert 0 < met < 780  # both cases occurred


@pytest.mark.parametrize(
    ("grammar", "other", "shared"),
    [
        ("a*b", "ab*", "ab"),
        ("(a|b)*a(a|b)", "(ba|ab)+", "ab"),  # ba does not end like the first
        ("(a|b){2,5}", "(ba|ab|a)+", "aa"),
        ("a?", "b*", ""),
        ("(aa)+", "(aaa)+", "aaaaaa"),
        ("a(b|c)d", "a[e-g]d", None),
        ("(aa)*a", "(aa)+", None),
        ("[ab]{3}", "[ab]{4}", None),
    ],
)
def test_shared_string_is_the_shortest_and_first(
    grammar: str, other: str, shared: str | None
) -> None:
    assert Grammar(grammar).shared_string(Grammar(other)) == shared
    assert Grammar(other).shared_string(Grammar(grammar)) == shared


def test_sampling_is_uniform_over_strings() -> None:
    # Branch by branch, "a" alone would be drawn half the time; length by length, a quarter.
    regex = "a|(b|c){1,4}"
    strings = brute_force(regex, "abc", 1, 4)
    assert len(strings) == 31
    grammar, rng = Grammar(regex), np.random.default_rng(0)
    seen = Counter(grammar.sample(1, 1, 4, rng)[0] for _ in range(6200))
    assert chisquare([seen[string] for string in strings]).pvalue > 0.001


def test_every_subset_and_every_order_is_equally_likely() -> None:
    grammar, rng = Grammar("[abcd]"), np.random.default_rng(1)
    seen = Counter(tuple(grammar.sample(3, 1, 1, rng)) for _ in range(4800))
    orders = list(itertools.permutations("abcd", 3))
    assert chisquare([seen[order] for order in orders]).pvalue > 0.001


def test_a_language_beyond_64_bits_is_sampled_over_its_whole_width() -> None:
    assert Grammar("[abc]{70}").count(70, 70) == 3**70
    assert Grammar("(a|ab)(c|bc)").count(0, 9) == 3, "abc has two derivations but is one string"
    drawn = Grammar("[ab]{100}").sample(200, 100, 100, np.random.default_rng(0))
    assert len(set(drawn)) == 200
    ones = np.array([[symbol == "b" for symbol in string] for string in drawn])
    assert chisquare(ones.sum(axis=0), np.full(100, ones.sum() / 100)).pvalue > 0.001


def test_equality_and_symbols() -> None:
    assert Grammar("a|b") == Grammar("a|b") != Grammar("b|a")
    assert Grammar("c[ab]?(x{0}|d)").symbols == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("regex", "position", "what"),
    [
        ("(ab", 0, "group is not closed"),
        ("ab)", 2, "unmatched )"),
        ("a|*", 2, "nothing to repeat before *"),
        ("a**", 2, "a repetition cannot be followed by another"),
        ("a+?", 2, "a repetition cannot be followed by another"),
        ("a.b", 1, ". is not supported here"),
        ("^a", 0, "^ is not supported here"),
        ("ab$", 2, "$ is not supported here"),
        (r"a\d", 1, r"\d is not supported"),
        ("a\\", 1, "\\ is not supported"),
        ("a b", 1, "symbols must not be whitespace"),
        ("a{x}", 1, "should be {m}, {m,} or {m,n}"),
        ("a{,3}", 1, "should be {m}, {m,} or {m,n}"),
        ("a{3,2}", 1, "{3,2} has its counts the wrong way round"),
        ("a{10001}", 1, "repetition counts must be at most 10000"),
        ("[^a]", 1, "^ is not supported here"),
        ("[ab", 0, "class is not closed"),
        ("[]", 1, "] is not supported here"),
        ("[c-a]", 4, "range c-a is the wrong way round"),
        ("[a-", 3, "the end is not supported here"),
        ("(?=a)", 1, "this kind of group is not supported"),
        ("(?P<n>a)", 1, "this kind of group is not supported"),
        ("(" * 51 + "a" + ")" * 51, 50, "more than 50 groups inside each other"),
    ],
)
def test_refusals_name_the_position_and_what_is_supported(
    regex: str, position: int, what: str
) -> None:
    with pytest.raises(InputError) as error:
        Grammar(regex)
    message = str(error.value)
    assert message.startswith(f"regex {regex!r}, position {position}: {what}")
    assert "; supported are literals" in message
    assert "\n" not in message


def test_counts_of_any_number_of_digits_are_refused() -> None:
    for counts in ("9" * 5000, f"1,{'9' * 5000}"):
        with pytest.raises(InputError, match="repetition counts must be at most 10000"):
            Grammar(f"a{{{counts}}}")


@pytest.mark.parametrize(
    ("regex", "message"),
    [
        *((empty, "matches the empty string only") for empty in ("", "()", "a{0}", "(|())*")),
        ("(a|b)*a(a|b){30}", f"an automaton of more than {MAX_STATES} states"),
        ("((ab){1,999}c){1,999}", f"an automaton of more than {MAX_STATES} states"),
    ],
)
def test_empty_and_huge_languages_are_refused(regex: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grammar(regex)


@pytest.mark.parametrize(
    ("regex", "lengths", "counts"),
    [
        ("a?" * 1500, (0, 1500), [1] * 1501),  # took 90 s when each derivative was a copy
        ("abcde" * 2000, (9_999, 10_001), [0, 1, 0]),
        ("a{10000}", (9_999, 10_001), [0, 1, 0]),
        ("(" * 49 + "a*" + ")*" * 49, (0, 3), [1, 1, 1, 1]),
        ("a*", (10**5, 10**5), [1]),
        ("(a|b)*a(a|b){12}", (12, 15), [0, 2**12, 2**13, 2**14]),
        ("[\u4e00-\u9fff]{2}", (2, 2), [20_992**2]),
        ("|".join(map("".join, itertools.product("ab", repeat=11))), (10, 12), [0, 2**11, 0]),
    ],
)
def test_long_expressions_are_counted(
    regex: str, lengths: tuple[int, int], counts: list[int]
) -> None:
    assert Grammar(regex).counts(*lengths) == counts


def test_optional_symbols_are_those_of_automata_lib() -> None:
    # More than one block of states in a subset, and options inside repetitions.
    for regex in ("(a?b?)" * 40, "(a?b?c?){2,30}", "((a|b?)c?){70}"):
        dfa = DFA.from_nfa(NFA.from_regex(regex, input_symbols=set("abc")))
        theirs = [dfa.count_words_of_length(k) for k in range(12)]
        assert Grammar(regex).counts(0, 11) == theirs, regex


@pytest.mark.parametrize(
    ("regex", "message"),
    [
        ("a" * 10**6, r"regex 'a+'\.\.\.'a+' of 1000000 characters: should have at most 100000"),
        ("(" * 20_000, "more than 50 groups inside each other"),
        ("[!-\U0010ffff]", "has more than 50000 symbols"),
        ("[\ud000-\ue000]", "has no symbols in its middle"),
        ("((a{0,100}){0,100}){0,100}", f"an automaton of more than {MAX_STATES} states"),
        ("[\u4e00-\u9fff]{100}", "an automaton of more than 2000000 arrows"),
    ],
)
def test_what_is_too_long_is_refused_in_a_short_line(regex: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        Grammar(regex)
    assert len(str(error.value)) < 500


def test_counts_beyond_the_memory_are_refused_before_they_are_made() -> None:
    with pytest.raises(InputError, match=r"in 2 GiB of memory; max_length should be at most about"):
        Grammar("(a|b)*a(a|b){12}").count(1, 10**5)


def test_a_huge_comparison_is_refused() -> None:
    with pytest.raises(InputError, match="too large to be compared"):
        Grammar("(a{1009})+b").shared_string(Grammar("(a{1013})+c"))


def test_too_many_asked_for() -> None:
    with pytest.raises(
        InputError, match="matches only 8 strings of length 2 to 3: should be at least 9"
    ):
        Grammar("(a|b){3}").sample(9, 2, 3, np.random.default_rng(0))
    with pytest.raises(InputError, match="lengths 3 to 2: should be 0 <= shortest <= longest"):
        Grammar("a").count(3, 2)


def test_random_grammars_meet_their_conditions() -> None:
    needed = [200, 500, 100, 150, 300, 200, 200, 200]
    grammars = random_grammars(np.random.default_rng(0), "abcde", 6, 16, needed)
    for grammar, least in zip(grammars, needed, strict=True):
        assert grammar.count(6, 16) >= least
        assert set(grammar.symbols) == set("abcde")
        assert len(grammar.regex) < 120
        assert re.search(r"[*+]|,}", grammar.regex) is None  # nothing without end
    for grammar, other in itertools.combinations(grammars, 2):
        assert grammar.shared_string(other) is None


def test_random_grammars_that_are_too_large_are_drawn_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    monkeypatch.setattr("tasklens.data.automaton.MAX_STATES", 40)
    for grammar in random_grammars(rng, "abcde", 6, 16, [100] * 4):
        assert grammar.count(6, 16) >= 100
    with pytest.raises(InputError, match="10 random grammars in succession are too large"):
        random_grammars(rng, "abcde", 10**5, 10**5, [100] * 4)
    with pytest.raises(InputError, match="fewer than the 127 strings of length 1 to 6 over 'ab'"):
        assert random_grammars(rng, "ab", 1, 6, [127])


def test_random_regexes_use_symbols_equally_often_and_escape_them() -> None:
    seen = Counter(random_regex(np.random.default_rng(0), "vwxyz", 40))
    occurrences = [seen[symbol] for symbol in "vwxyz"]
    assert max(occurrences) - min(occurrences) <= 1  # of 40
    assert Grammar(random_regex(np.random.default_rng(0), ".-+(", 5)).symbols == tuple("(+-.")
