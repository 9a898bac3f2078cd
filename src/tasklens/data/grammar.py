"""Count, sample and compare the languages of regular expressions, and draw random ones.

An expression becomes a deterministic automaton (`automaton`). Every state leads to acceptance, so
strings are counted backwards and drawn by rank.

automata-lib is the reference in the tests, but is not used here, for three reasons. It determinises
without a bound (a user's ``(a|b)*a(a|b){30}`` would fill the memory), reads another syntax, and
cannot sample without replacement.
"""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasklens.core.errors import InputError
from tasklens.data.automaton import MAX_STATES, Automaton
from tasklens.data.regex import parse, shown

#: Pairs of states after which a comparison, which would take minutes, is refused.
MAX_PAIRS = 1_000_000
REDRAWS = 2000
#: Draws in succession whose automata are too large after which random grammars are refused.
TOO_LARGE = 10

# The shape of random syntax trees.
ALTERNATION = 0.35
REPETITION = 0.25
SIGNS = ("?", "{1,2}", "{1,3}", "{2,3}")


# --- Languages ---


@dataclass(unsafe_hash=True)
class Grammar:
    """The language of one regular expression.

    Parameters
    ----------
    regex : str
        Python `re` syntax. Supported are literals, escaped punctuation, groups, alternatives,
        ``?``, ``*``, ``+``, ``{m}``, ``{m,}``, ``{m,n}`` and classes like ``[abc]``, ``[a-c]``.
        A string belongs to the language if and only if `re.fullmatch` accepts it.

    Raises
    ------
    InputError
        If the expression does not parse, matches the empty string only, or is too large.

    Attributes
    ----------
    symbols : tuple of str
        The symbols of its strings, sorted.
    """

    regex: str

    def __post_init__(self) -> None:
        self._automaton = Automaton(parse(self.regex), self.regex)
        tables = self._automaton.tables
        self.symbols = tuple(sorted({symbol for table in tables for symbol in table}))
        if not self.symbols:
            raise InputError(f"regex {shown(self.regex)} matches the empty string only")

    def counts(self, min_length: int, max_length: int) -> list[int]:
        """Return the exact number of strings of each length from the first to the second."""
        if not 0 <= min_length <= max_length:
            raise InputError(
                f"lengths {min_length} to {max_length}: should be 0 <= shortest <= longest"
            )
        self._automaton.count_up_to(max_length)
        return [self._automaton.count(length) for length in range(min_length, max_length + 1)]

    def count(self, min_length: int, max_length: int) -> int:
        """Return the exact number of strings of the admitted lengths, both ends included."""
        return sum(self.counts(min_length, max_length))

    def sample(
        self, n: int, min_length: int, max_length: int, rng: np.random.Generator
    ) -> list[str]:
        """Draw n distinct strings, uniformly over all strings of the admitted lengths.

        All sets of n strings are equally likely, and so are all orders (Floyd's algorithm on the
        ranks of the strings, Bentley 1987). InputError if there are fewer than n.
        """
        total = self.count(min_length, max_length)
        if n > total:
            raise InputError(
                f"regex {shown(self.regex)} matches only {total} strings of length {min_length} to"
                f" {max_length}: should be at least {n}"
            )
        ranks: dict[int, None] = {}
        for last in range(total - n, total):
            rank = _below(last + 1, rng)
            ranks[last if rank in ranks else rank] = None
        chosen = list(ranks)
        return [self._string(chosen[i], min_length) for i in rng.permutation(n)]

    def _string(self, rank: int, length: int) -> str:
        """Return the string with this rank among those of at least this length, shortest first."""
        automaton = self._automaton
        while rank >= (number := automaton.count(length)):
            rank -= number
            length += 1
        state, string = 0, ""
        for left in range(length - 1, -1, -1):
            for symbol, target in automaton.tables[state].items():
                number = automaton.counts[left].get(target, 0)
                if rank < number:
                    string, state = string + symbol, target
                    break
                rank -= number
        return string

    def shared_string(self, other: "Grammar") -> str | None:
        """Return the shortest string of both languages (the first in order), or None.

        InputError if the two are too large to be compared.
        """
        # Breadth first, symbols in order: the least string of a pair of states reaches it first.
        came_from: dict[tuple[int, int], tuple[tuple[int, int], str] | None] = {(0, 0): None}
        ours, others = self._automaton, other._automaton
        queue = deque([(0, 0)])
        while queue:
            pair = mine, yours = queue.popleft()
            if ours.accepts[mine] and others.accepts[yours]:
                symbols = []
                while (step := came_from[pair]) is not None:
                    pair, symbol = step
                    symbols.append(symbol)
                return "".join(reversed(symbols))
            theirs = others.tables[yours]
            for symbol, target in ours.tables[mine].items():
                if symbol in theirs and (reached := (target, theirs[symbol])) not in came_from:
                    came_from[reached] = (pair, symbol)
                    queue.append(reached)
            if len(came_from) > MAX_PAIRS:
                raise InputError(
                    f"regexes {shown(self.regex)} and {shown(other.regex)} are too large to be"
                    " compared; use smaller repetition counts"
                )
        return None


def _below(end: int, rng: np.random.Generator) -> int:
    """Return a uniform integer in [0, end), of any size."""
    if end <= 2**63:
        return int(rng.integers(end))
    n_bytes = (end.bit_length() + 7) // 8
    while (value := int.from_bytes(rng.bytes(n_bytes), "little")) >= end:
        pass
    return value


# --- Random languages ---


def random_regex(rng: np.random.Generator, symbols: str, size: int) -> str:
    """Draw the expression of a random syntax tree with `size` symbols; its language is finite.

    The symbols are taken from shuffled copies of the alphabet, so that all occur about equally
    often. A tree is cut in two at a uniformly drawn point until it is a single symbol. Below the
    root, the halves are alternatives with probability `ALTERNATION`; otherwise one follows the
    other. Below the root, a tree is repeated or optional with probability `REPETITION`.
    """
    decks = [rng.permutation(list(symbols)) for _ in range(-(-size // len(symbols)))]
    leaves = iter(np.concatenate(decks).tolist())

    def tree(size: int, root: bool = False) -> tuple[str, bool]:
        """Return the text, and whether a repetition sign after it would apply to all of it."""
        if size == 1:
            text, closed = re.escape(next(leaves)), True
        else:
            cut = int(rng.integers(1, size))
            alternatives = not root and rng.random() < ALTERNATION
            left, right = tree(cut)[0], tree(size - cut)[0]
            text, closed = left + right, False
            if alternatives:
                text, closed = (f"({left}|{right})", True) if left != right else (left, False)
        if not root and rng.random() < REPETITION:
            text, closed = (text if closed else f"({text})") + str(rng.choice(SIGNS)), False
        return text, closed

    return tree(size, root=True)[0]


def random_grammars(
    rng: np.random.Generator,
    symbols: str,
    min_length: int,
    max_length: int,
    min_strings: Sequence[int],
    earlier: Sequence[Grammar] = (),
) -> list[Grammar]:
    """Draw grammars with disjoint languages, of at least `min_strings` strings of these lengths.

    They are disjoint from ``earlier`` ones, too.

    Each is an independent draw of `random_regex`, repeated until it meets the conditions and can be
    counted and compared. The number of symbols lies between the mean of the admitted lengths and
    the largest. InputError if `REDRAWS` draws do not meet the conditions, or if it is clear before
    that none can.
    """
    lengths = f"strings of length {min_length} to {max_length} over {shown(symbols)}"
    if (most := max(min_strings, default=0)) > _strings_over(
        len(symbols), min_length, max_length, most
    ):
        raise InputError(
            f"there are fewer than the {most} {lengths} that a grammar needs; allow more symbols or"
            " lengths, or fewer variants"
        )
    grammars: list[Grammar] = []
    for needed in min_strings:
        too_large = 0
        for _ in range(REDRAWS):
            size = int(rng.integers((min_length + max_length) // 2, max_length, endpoint=True))
            try:
                grammar = _random_grammar(rng, symbols, size)
                fits = grammar.count(min_length, max_length) >= needed and all(
                    each.shared_string(grammar) is None for each in (*earlier, *grammars)
                )
            except InputError as error:  # too large, because its syntax is right
                too_large += 1
                if too_large == TOO_LARGE:
                    raise InputError(
                        f"max_length = {max_length}: random instructions are too long to be"
                        f" counted: {TOO_LARGE} random grammars in succession are too large; lower"
                        " max_length, or give regexes"
                    ) from error
                continue
            too_large = 0
            if fits:
                grammars.append(grammar)
                break
        else:
            raise InputError(
                f"random grammar {len(grammars) + 1} of {len(min_strings)}: {REDRAWS} draws gave"
                f" none with {needed} {lengths}, disjoint from the others; allow more symbols or"
                " lengths, or fewer tasks, distributions or variants"
            )
    return grammars


def _random_grammar(rng: np.random.Generator, symbols: str, size: int) -> Grammar:
    """Draw a grammar with so many symbols; InputError if it is too large."""
    if size > MAX_STATES:  # to draw the expression alone would take seconds
        raise InputError(f"more than {MAX_STATES} symbols")
    return Grammar(random_regex(rng, symbols, size))


def _strings_over(n_symbols: int, min_length: int, max_length: int, enough: int) -> int:
    """Return the number of all strings of these lengths, or any number that is enough."""
    number = 0
    for length in range(min_length, max_length + 1):
        number += n_symbols ** min(length, enough.bit_length()) if n_symbols > 1 else 1
        if number >= enough:
            break
    return number
