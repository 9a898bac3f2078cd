"""Count, sample and compare the languages of regular expressions, and draw random ones.

The partial derivatives of an expression's tree (Antimirov 1996) are the states of a
nondeterministic automaton. Its subsets are the states of a deterministic automaton, which is a list
of tables {symbol: next state}. Every state leads to acceptance, so strings are counted backwards
and drawn by rank.

automata-lib is the reference in the tests, but is not used here, for three reasons. It determinises
without a bound (a user's ``(a|b)*a(a|b){30}`` would fill the memory), reads another syntax, and
cannot sample without replacement.
"""

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tasklens.core.errors import InputError
from tasklens.data import regex as regex_tree

# Bounds that refuse expressions which would take minutes or all memory.
MAX_STATES = 20_000
MAX_PAIRS = 1_000_000
REDRAWS = 2000

# The shape of random syntax trees.
ALTERNATION = 0.35
REPETITION = 0.25
SIGNS = ("?", "{1,2}", "{1,3}", "{2,3}")


# --- The automaton ---


def _nullable(sequence: regex_tree.Sequence) -> bool:
    """Return whether the sequence matches the empty string."""
    for node in sequence:
        match node:
            case regex_tree.OneOf():
                return False
            case regex_tree.Either(options) if not any(map(_nullable, options)):
                return False
            case regex_tree.Repeat(body, least) if least > 0 and not _nullable(body):
                return False
    return True


def _steps(sequence: regex_tree.Sequence) -> Iterable[tuple[str, regex_tree.Sequence]]:
    """Yield each way to read one symbol: the possible symbols, and the sequence that follows."""
    for i, node in enumerate(sequence):
        rest = sequence[i + 1 :]
        match node:
            case regex_tree.OneOf(symbols):
                yield symbols, rest
            case regex_tree.Either(options):
                for option in options:
                    yield from ((symbols, tail + rest) for symbols, tail in _steps(option))
            case regex_tree.Repeat(body, least, most):
                fewer = regex_tree.repeat(body, max(least - 1, 0), most and most - 1)
                yield from ((symbols, tail + fewer + rest) for symbols, tail in _steps(body))
        if not _nullable((node,)):
            return


def _automaton(tree: regex_tree.Sequence, regex: str) -> tuple[list[dict[str, int]], list[bool]]:
    """Return the tables {symbol: next state} in the order of symbols, and which states accept."""
    numbers = {tree: 0}  # the nondeterministic automaton, with one state per partial derivative
    arrows: list[dict[str, set[int]]] = []
    queue = [tree]
    for sequence in queue:
        table: dict[str, set[int]] = defaultdict(set)
        for symbols, rest in _steps(sequence):
            if rest not in numbers:
                numbers[rest] = len(queue)
                queue.append(rest)
            for symbol in symbols:
                table[symbol].add(numbers[rest])
        arrows.append(table)
        _check_size(len(queue), regex)
    finishing = [_nullable(sequence) for sequence in queue]

    subsets = {frozenset({0}): 0}
    waiting = [frozenset({0})]
    tables: list[dict[str, int]] = []
    for subset in waiting:
        reached: dict[str, set[int]] = defaultdict(set)
        for state in subset:
            for symbol, targets in arrows[state].items():
                reached[symbol] |= targets
        tables.append({})
        for symbol in sorted(reached):
            target = frozenset(reached[symbol])
            if target not in subsets:
                subsets[target] = len(waiting)
                waiting.append(target)
            tables[-1][symbol] = subsets[target]
        _check_size(len(waiting), regex)
    return tables, [any(finishing[state] for state in subset) for subset in waiting]


def _check_size(states: int, regex: str) -> None:
    if states > MAX_STATES:
        raise InputError(
            f"regex {regex!r} needs an automaton of more than {MAX_STATES} states;"
            " use smaller repetition counts or fewer alternatives"
        )


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
        self._tables, self._accepts = _automaton(regex_tree.parse(self.regex), self.regex)
        self.symbols = tuple(sorted({symbol for table in self._tables for symbol in table}))
        if not self.symbols:
            raise InputError(f"regex {self.regex!r} matches the empty string only")
        # _completions[k][s]: the number of strings of length k that lead from s to acceptance
        self._completions = [[int(accepts) for accepts in self._accepts]]

    def counts(self, min_length: int, max_length: int) -> list[int]:
        """Return the exact number of strings of each length from the first to the second."""
        if not 0 <= min_length <= max_length:
            raise InputError(
                f"lengths {min_length} to {max_length}: should be 0 <= shortest <= longest"
            )
        while len(self._completions) <= max_length:
            shorter = self._completions[-1]
            self._completions.append([sum(shorter[s] for s in t.values()) for t in self._tables])
        return [self._completions[length][0] for length in range(min_length, max_length + 1)]

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
                f"regex {self.regex!r} matches only {total} strings of length {min_length} to"
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
        while rank >= self._completions[length][0]:
            rank -= self._completions[length][0]
            length += 1
        state, string = 0, ""
        for left in range(length - 1, -1, -1):
            for symbol, target in self._tables[state].items():
                if rank < self._completions[left][target]:
                    string, state = string + symbol, target
                    break
                rank -= self._completions[left][target]
        return string

    def shared_string(self, other: "Grammar") -> str | None:
        """Return the shortest string of both languages (the first in order), or None.

        InputError if the two are too large to be compared.
        """
        # Breadth first, symbols in order: the least string of a pair of states reaches it first.
        came_from: dict[tuple[int, int], tuple[tuple[int, int], str] | None] = {(0, 0): None}
        queue = deque([(0, 0)])
        while queue:
            pair = mine, yours = queue.popleft()
            if self._accepts[mine] and other._accepts[yours]:
                symbols = []
                while (step := came_from[pair]) is not None:
                    pair, symbol = step
                    symbols.append(symbol)
                return "".join(reversed(symbols))
            theirs = other._tables[yours]
            for symbol, target in self._tables[mine].items():
                if symbol in theirs and (reached := (target, theirs[symbol])) not in came_from:
                    came_from[reached] = (pair, symbol)
                    queue.append(reached)
            if len(came_from) > MAX_PAIRS:
                raise InputError(
                    f"regexes {self.regex!r} and {other.regex!r} are too large to be compared;"
                    " use smaller repetition counts"
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
) -> list[Grammar]:
    """Draw grammars with disjoint languages, of at least `min_strings` strings of these lengths.

    Each is an independent draw of `random_regex`, repeated until it meets the conditions. The
    number of symbols lies between the mean of the admitted lengths and the largest. InputError if
    `REDRAWS` draws do not meet the conditions.
    """
    grammars: list[Grammar] = []
    for needed in min_strings:
        for _ in range(REDRAWS):
            size = int(rng.integers((min_length + max_length) // 2, max_length, endpoint=True))
            grammar = Grammar(random_regex(rng, symbols, size))
            if grammar.count(min_length, max_length) >= needed and all(
                earlier.shared_string(grammar) is None for earlier in grammars
            ):
                grammars.append(grammar)
                break
        else:
            raise InputError(
                f"random grammar {len(grammars) + 1} of {len(min_strings)}: {REDRAWS} draws gave"
                f" none with {needed} strings of length {min_length} to {max_length} over"
                f" {symbols!r}, disjoint from the others; allow more symbols or lengths, or fewer"
                " tasks or variants"
            )
    return grammars
