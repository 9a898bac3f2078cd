"""Make the automaton of a regular expression's tree, and count the strings it accepts.

The partial derivatives of the tree (Antimirov 1996) are the states of a nondeterministic automaton.
Its subsets are the states of a deterministic one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

from tasklens.core.errors import InputError
from tasklens.data import regex as regex_tree
from tasklens.data.regex import shown

# Bounds that refuse expressions which would take minutes or all memory.
MAX_STATES = 20_000
MAX_ARROWS = 2_000_000
#: Bytes of the counts of one language, at most.
MAX_COUNT_BYTES = 2**31
#: Bytes of a number in a dictionary, besides its digits.
ENTRY_BYTES = 100
#: States whose arrows are united at once.
BLOCK = 64

Key = TypeVar("Key")

#: Sets of states by symbol; bit i of a set is state i.
Arrows = dict[str, int]


class Automaton:
    """A deterministic automaton, each of whose states leads to acceptance.

    Attributes
    ----------
    tables : list of dict
        The next state by symbol, in the order of the symbols, for each state; the first is 0.
    accepts : list of bool
        Whether a string may end at each state.
    counts : list of dict
        ``counts[k][s]`` is the number of strings of length k that lead from state s to acceptance,
        if there are any; see `count_up_to`.

    Raises
    ------
    InputError
        If the automaton is too large.
    """

    def __init__(self, tree: regex_tree.Sequence, regex: str) -> None:
        self._regex = regex
        self.tables, self.accepts = _determined(_Derivatives(tree, regex), regex)
        self.counts = [{state: 1 for state, accepts in enumerate(self.accepts) if accepts}]
        self._count_bytes = 0
        # The number of symbols that lead to each state, by the state that they lead from.
        self._sources: list[dict[int, int]] = [defaultdict(int) for _ in self.tables]
        for state, table in enumerate(self.tables):
            for target in table.values():
                self._sources[target][state] += 1

    def count_up_to(self, longest: int) -> None:
        """Count the strings of all lengths up to the longest.

        InputError if the counts take more memory than `MAX_COUNT_BYTES`.
        """
        while len(self.counts) <= longest and self.counts[-1]:
            longer: dict[int, int] = defaultdict(int)
            for target, number in self.counts[-1].items():
                for state, times in self._sources[target].items():
                    longer[state] += times * number
            digits = sum(map(int.bit_length, longer.values())) // 8
            each = ENTRY_BYTES * len(longer)
            self._count_bytes += each + digits
            # Once no state is lost by one more symbol, none is lost by any number of them.
            rows_left = longest - len(self.counts) if self.counts[-1].keys() <= longer.keys() else 0
            if self._count_bytes + rows_left * each > MAX_COUNT_BYTES:
                fit = len(self.counts) + max(0, MAX_COUNT_BYTES - self._count_bytes) // each
                raise InputError(
                    f"regex {shown(self._regex)}: its strings of up to {longest} symbols cannot "
                    f"be counted in {MAX_COUNT_BYTES >> 30} GiB of memory; max_length should be "
                    f"at most about {fit}"
                )
            self.counts.append(dict(longer))

    def count(self, length: int) -> int:
        """Return the exact number of strings of a length up to the longest that was counted."""
        return self.counts[length].get(0, 0) if length < len(self.counts) else 0


class _Numbers(Generic[Key]):
    """Numbers of keys, in the order in which they were first seen."""

    def __init__(self) -> None:
        self._number: dict[Key, int] = {}
        self.keys: list[Key] = []

    def __getitem__(self, key: Key) -> int:
        number = self._number.setdefault(key, len(self.keys))
        if number == len(self.keys):
            self.keys.append(key)
        return number


class _OneOf(NamedTuple):
    """One symbol of a set."""

    symbols: str


class _Either(NamedTuple):
    """One of several sequences, given by their numbers."""

    options: tuple[int, ...]


class _Repeat(NamedTuple):
    """A sequence, given by its number, repeated."""

    body: int
    least: int
    most: int | None


class _Rest(NamedTuple):
    """A node and the rest that follows it, given by their numbers."""

    node: int
    after: int


#: The rest of which nothing is left.
NOTHING = -1


class _Derivatives:
    """The states of the nondeterministic automaton: what is left after some symbols.

    Equal nodes, sequences and rests are one number each, so that none is compared or copied in
    full. Otherwise the time would be cubic in the length of the expression.
    """

    def __init__(self, tree: regex_tree.Sequence, regex: str) -> None:
        self._regex = regex
        self._nodes: _Numbers[_OneOf | _Either | _Repeat] = _Numbers()
        self._sequences: _Numbers[tuple[int, ...]] = _Numbers()
        self._rests: _Numbers[_Rest] = _Numbers()
        self._can_be_empty: dict[int, bool] = {}  # by node
        self._suffixes: dict[tuple[int, int], list[int]] = {}
        self._from_node: dict[int, Arrows] = {}  # by rest
        self._from_rest: dict[int, Arrows] = {NOTHING: {}}
        self._n_arrows = 0
        self.states: _Numbers[int] = _Numbers()  # rests
        self._reach(self._rests_of(self._number(tree), NOTHING)[0])

    def arrows(self, state: int) -> Arrows:
        """Return the states that each symbol leads to from a state."""
        rest, waiting = self.states.keys[state], []
        while rest not in self._from_rest:
            waiting.append(rest)
            node, after = self._rests.keys[rest]
            rest = after if self._is_nullable(node) else NOTHING
        arrows = self._from_rest[rest]
        for rest in reversed(waiting):
            arrows = self._from_rest[rest] = _united([self._read_node(rest), arrows])
            self._n_arrows += len(arrows)
            _check_arrows(self._n_arrows, self._regex)
        return arrows

    def ending(self) -> int:
        """Return the set of the states at which nothing may follow."""
        ends = {NOTHING: True}
        for number, (node, after) in enumerate(
            self._rests.keys
        ):  # the later rest is numbered first
            ends[number] = ends[after] and self._is_nullable(node)
        return sum(1 << state for state, rest in enumerate(self.states.keys) if ends[rest])

    def _read_node(self, rest: int) -> Arrows:
        """Return the states that each symbol leads to if the first node of a rest reads it."""
        if rest not in self._from_node:
            number, after = self._rests.keys[rest]
            match self._nodes.keys[number]:
                case _OneOf(symbols):
                    arrows = dict.fromkeys(symbols, 1 << self._reach(after))
                case _Either(options):
                    arrows = _united(part for each in options for part in self._read(each, after))
                case _Repeat(body, least, most):
                    fewer = self._repeated(body, max(least - 1, 0), most and most - 1)
                    arrows = _united(self._read(body, self._rests_of(fewer, after)[0]))
            self._from_node[rest] = arrows
        return self._from_node[rest]

    def _read(self, sequence: int, after: int) -> Iterator[Arrows]:
        """Yield the states that each symbol leads to, for each node that may read the first one."""
        rests = self._rests_of(sequence, after)
        for node, rest in zip(self._sequences.keys[sequence], rests, strict=False):
            yield self._read_node(rest)
            if not self._is_nullable(node):
                return

    def _reach(self, rest: int) -> int:
        """Return the number of the state at which this is left."""
        state = self.states[rest]
        _check_states(len(self.states.keys), self._regex)
        return state

    def _rests_of(self, sequence: int, after: int) -> list[int]:
        """Return the rests that begin with each node of a sequence, and the one after it."""
        key = sequence, after
        if key not in self._suffixes:
            rests = [after]
            for node in reversed(self._sequences.keys[sequence]):
                rests.append(self._rests[_Rest(node, rests[-1])])
            self._suffixes[key] = rests[::-1]
        return self._suffixes[key]

    def _number(self, sequence: regex_tree.Sequence) -> int:
        """Return the number of a sequence of a tree."""
        nodes: list[_OneOf | _Either | _Repeat] = []
        for node in sequence:
            match node:
                case regex_tree.OneOf(symbols):
                    nodes.append(_OneOf(symbols))
                case regex_tree.Either(options):
                    nodes.append(_Either(tuple(map(self._number, options))))
                case regex_tree.Repeat(body, least, most):
                    nodes.append(_Repeat(self._number(body), least, most))
        return self._sequences[tuple(self._nodes[node] for node in nodes)]

    def _repeated(self, body: int, least: int, most: int | None) -> int:
        """Return the number of a sequence repeated; see `regex.repeat`."""
        if most == 0:
            return self._sequences[()]
        if least == most == 1:
            return body
        return self._sequences[(self._nodes[_Repeat(body, least, most)],)]

    def _is_nullable(self, node: int) -> bool:
        """Return whether a node matches the empty string."""
        if node not in self._can_be_empty:
            match self._nodes.keys[node]:
                case _OneOf():
                    nullable = False
                case _Either(options):
                    nullable = any(map(self._all_nullable, options))
                case _Repeat(body, least):
                    nullable = least == 0 or self._all_nullable(body)
            self._can_be_empty[node] = nullable
        return self._can_be_empty[node]

    def _all_nullable(self, sequence: int) -> bool:
        return all(map(self._is_nullable, self._sequences.keys[sequence]))


def _determined(derivatives: _Derivatives, regex: str) -> tuple[list[dict[str, int]], list[bool]]:
    """Return the tables {symbol: next state} in the order of symbols, and which states accept."""
    arrows: list[Arrows] = []
    while len(arrows) < len(derivatives.states.keys):
        arrows.append(derivatives.arrows(len(arrows)))
    ending = derivatives.ending()
    # Neighbouring states are often in a subset together, so blocks of them are united once.
    of_block: dict[tuple[int, int], Arrows] = {}

    def united_block(block: int, part: int) -> Arrows:
        if (block, part) not in of_block:
            states = (block * BLOCK + i for i in range(BLOCK) if part >> i & 1)
            of_block[block, part] = _united(arrows[state] for state in states)
        return of_block[block, part]

    subsets: _Numbers[int] = _Numbers()
    _ = subsets[1]
    tables: list[dict[str, int]] = []
    n_arrows = 0
    for subset in subsets.keys:  # which grows
        reached = _united(united_block(*each) for each in _blocks(subset))
        tables.append({symbol: subsets[reached[symbol]] for symbol in sorted(reached)})
        n_arrows += len(reached)
        _check_states(len(subsets.keys), regex)
        _check_arrows(n_arrows, regex)
    return tables, [bool(subset & ending) for subset in subsets.keys]


def _blocks(subset: int) -> Iterator[tuple[int, int]]:
    """Yield the number and the states of each block of a subset that is not empty."""
    first = 0
    while subset:
        skipped = ((subset & -subset).bit_length() - 1) // BLOCK
        subset >>= skipped * BLOCK
        yield first + skipped, subset & ((1 << BLOCK) - 1)
        subset >>= BLOCK
        first += skipped + 1


def _united(parts: Iterable[Arrows]) -> Arrows:
    """Return the states that each symbol leads to in any of the parts."""
    whole: Arrows = {}
    for part in parts:
        for symbol, targets in part.items():
            whole[symbol] = whole[symbol] | targets if symbol in whole else targets
    return whole


def _check_states(n: int, regex: str) -> None:
    if n > MAX_STATES:
        raise InputError(
            f"regex {shown(regex)} needs an automaton of more than {MAX_STATES} states;"
            " use smaller repetition counts or fewer alternatives"
        )


def _check_arrows(n: int, regex: str) -> None:
    if n > MAX_ARROWS:
        raise InputError(
            f"regex {shown(regex)} needs an automaton of more than {MAX_ARROWS} arrows;"
            " use smaller classes of symbols or smaller repetition counts"
        )
