"""Parse regular expressions, in a subset of the syntax of Python's `re`, into trees.

A tree is a sequence of nodes, and a node is a `OneOf`, an `Either` or a `Repeat`.
"""

import re
from dataclasses import dataclass

from tasklens.core.errors import InputError

# Bounds that refuse expressions which would take minutes or all memory.
MAX_REPEAT = 10_000
MAX_NESTING = 50
MAX_LENGTH = 100_000
MAX_RANGE = 50_000
#: Characters of an expression that a message shows.
SHOWN = 160
SUPPORTED = r"supported are literals, \ before punctuation, ( ), (?: ), |, ?, *, +, {m,n} and [a-c]"


@dataclass(frozen=True, slots=True)
class OneOf:
    """One symbol of a set."""

    symbols: str


@dataclass(frozen=True, slots=True)
class Either:
    """One of several sequences."""

    options: tuple["Sequence", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A sequence, repeated."""

    body: "Sequence"
    least: int
    most: int | None  # None: unbounded


Node = OneOf | Either | Repeat
Sequence = tuple[Node, ...]


def shown(regex: str) -> str:
    """Return an expression as a message shows it: its beginning and end if it is long."""
    if len(regex) <= SHOWN:
        return repr(regex)
    half = SHOWN // 2
    return f"{regex[:half]!r}...{regex[-half:]!r} of {len(regex)} characters"


def repeat(body: Sequence, least: int, most: int | None) -> Sequence:
    """Return the sequence repeated, in its simplest form."""
    if most == 0 or not body:
        return ()
    return body if least == most == 1 else (Repeat(body, least, most),)


@dataclass
class _Parser:
    """Recursive descent over one regular expression; every refusal names the position."""

    regex: str
    at: int = 0
    depth: int = 0

    def refusal(self, what: str) -> InputError:
        return InputError(f"regex {shown(self.regex)}, position {self.at}: {what}; {SUPPORTED}")

    def next(self, ahead: int = 0) -> str:
        return self.regex[self.at + ahead : self.at + ahead + 1]

    def alternatives(self) -> Sequence:
        options = [self.sequence()]
        while self.next() == "|":
            self.at += 1
            options.append(self.sequence())
        return options[0] if len(options) == 1 else (Either(tuple(options)),)

    def sequence(self) -> Sequence:
        nodes: list[Node] = []
        while self.next() not in ("", "|", ")"):
            nodes += self.repetition(self.atom())
        return tuple(nodes)

    def atom(self) -> Sequence:
        if self.next() == "(":
            return self.group()
        if self.next() == "[":
            return (self.character_class(),)
        if self.next() in "?*+{":
            raise self.refusal(f"nothing to repeat before {self.next()}")
        return (OneOf(self.literal(reserved=".^$]}")),)

    def group(self) -> Sequence:
        opening = self.at
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise self.refusal(f"more than {MAX_NESTING} groups inside each other")
        self.at += 3 if self.regex.startswith("(?:", self.at) else 1
        if self.next() == "?":
            raise self.refusal("this kind of group is not supported")
        inside = self.alternatives()
        if self.next() != ")":
            self.at = opening
            raise self.refusal("group is not closed")
        self.at += 1
        self.depth -= 1
        return inside

    def character_class(self) -> OneOf:
        opening = self.at
        self.at += 1
        symbols: set[str] = set()
        while self.next() != "]" or not symbols:
            if not self.next():
                self.at = opening
                raise self.refusal("class is not closed")
            first = last = self.literal(reserved="[]^-")
            if self.next() == "-":
                self.at += 1
                last = self.literal(reserved="[]^-")
                if last < first:
                    raise self.refusal(f"range {first}-{last} is the wrong way round")
                if ord(last) - ord(first) >= MAX_RANGE:
                    raise self.refusal(f"range {first}-{last} has more than {MAX_RANGE} symbols")
                if first < "\ud800" <= last:  # halves of characters, which no file can hold
                    raise self.refusal(f"range {first}-{last} has no symbols in its middle")
            symbols |= {chr(code) for code in range(ord(first), ord(last) + 1)}
        self.at += 1
        return OneOf("".join(sorted(symbols)))

    def literal(self, reserved: str) -> str:
        symbol, width = self.next(), 1
        if symbol == "\\":
            symbol, width = self.next(1), 2
            if not symbol or symbol.isalnum() or symbol == "_":
                raise self.refusal(f"\\{symbol} is not supported")
        elif not symbol or symbol in reserved:
            raise self.refusal(f"{symbol or 'the end'} is not supported here")
        if symbol.isspace():
            raise self.refusal("symbols must not be whitespace")
        self.at += width
        return symbol

    def repetition(self, body: Sequence) -> Sequence:
        sign = self.next()
        if sign == "" or sign not in "?*+{":
            return body
        if sign == "{":
            counts = re.compile(r"\{([0-9]+)(,([0-9]*))?\}").match(self.regex, self.at)
            if counts is None:
                raise self.refusal("should be {m}, {m,} or {m,n}, or \\{ for the character")
            # Of thousands of digits Python makes no number.
            if max(len(counts[1]), len(counts[3] or "")) > 9:
                raise self.refusal(f"repetition counts must be at most {MAX_REPEAT}")
            least = int(counts[1])
            most = int(counts[3]) if counts[3] else None if counts[2] else least
            if max(least, most or 0) > MAX_REPEAT:
                raise self.refusal(f"repetition counts must be at most {MAX_REPEAT}")
            if most is not None and most < least:
                raise self.refusal(f"{counts[0]} has its counts the wrong way round")
            self.at = counts.end()
        else:
            least, most = {"?": (0, 1), "*": (0, None), "+": (1, None)}[sign]
            self.at += 1
        if self.next() and self.next() in "?*+{":
            raise self.refusal("a repetition cannot be followed by another; use a group")
        return repeat(body, least, most)


def parse(regex: str) -> Sequence:
    """Return the tree of a regular expression; InputError names the position of an error."""
    if len(regex) > MAX_LENGTH:
        raise InputError(f"regex {shown(regex)}: should have at most {MAX_LENGTH} characters")
    parser = _Parser(regex)
    tree = parser.alternatives()
    if parser.at < len(regex):
        raise parser.refusal("unmatched )")
    return tree
