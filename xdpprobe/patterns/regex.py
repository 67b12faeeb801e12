# SPDX-License-Identifier: Apache-2.0
"""The regex dialect of signatures: text in, tree out, or why not.

Python's `re` is no help: it does not show its tree, and it knows much that no table can hold. The
dialect is described in docs/signatures.md. All is bounded: length, nesting, counts.
"""

from dataclasses import dataclass

from xdpprobe.signature_values import Bad

TEXT_LIMIT = 1000
DEPTH_LIMIT = 20  # groups within groups

ANY = (1 << 256) - 1  # a set of bytes is a number with a bit a byte


@dataclass(frozen=True, slots=True)
class Byte:
    """One byte of a set."""

    mask: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of them."""

    branches: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """From `low` to `high` times, without an end where `high` is None."""

    node: "Node"
    low: int
    high: int | None


Node = Byte | Sequence | Choice | Repeat
NOTHING = Sequence(())


@dataclass(frozen=True, slots=True)
class Regex:
    """A regex that was understood. `end`: the payload ends where the match ends."""

    text: str
    node: Node
    end: bool


def parse_regex(text: str, depth: int) -> Regex:
    """Understands a regex of which a payload's first `depth` bytes are looked at; or raises Bad."""
    try:
        return _Parser(text, depth).parse()
    except Bad as bad:
        shown = text if len(text) <= 60 else text[:60] + "..."
        raise Bad(f"{shown!r}: {bad.why}", bad.hint, text) from None


def shortest(node: Node) -> int:
    """The bytes of the shortest match."""
    if isinstance(node, Byte):
        return 1
    if isinstance(node, Sequence):
        return sum(shortest(part) for part in node.parts)
    if isinstance(node, Choice):
        return min(shortest(branch) for branch in node.branches)
    return node.low * shortest(node.node)


def longest(node: Node) -> int | None:
    """The bytes of the longest match, None where there is no end."""
    if isinstance(node, Byte):
        return 1
    if isinstance(node, Repeat):
        once = longest(node.node)
        if once == 0:
            return 0
        return None if once is None or node.high is None else once * node.high
    found = [
        longest(part) for part in (node.parts if isinstance(node, Sequence) else node.branches)
    ]
    known = [length for length in found if length is not None]
    if len(known) < len(found):
        return None
    return sum(known) if isinstance(node, Sequence) else max(known)


def _span(first: int, last: int) -> int:
    return (1 << (last + 1)) - (1 << first)


def _of(text: bytes) -> int:
    return sum(1 << byte for byte in set(text))


_DIGIT = _span(0x30, 0x39)
_UPPER, _LOWER = _span(0x41, 0x5A), _span(0x61, 0x7A)
_CLASSES = {"d": _DIGIT, "w": _DIGIT | _UPPER | _LOWER | _of(b"_"), "s": _of(b" \t\r\n\v\f")}
_CONTROLS = {"r": 13, "n": 10, "t": 9, "0": 0}
_HEX = frozenset("0123456789abcdefABCDEF")
_QUANTIFIERS = "*+?{"


class _Parser:
    """Goes over the text once, from left to right; `at` is where it stands."""

    def __init__(self, text: str, depth: int) -> None:
        self.text = text
        self.at = 0
        self.groups = 0
        self.end = False
        self.either_case = False
        self.depth = depth

    def parse(self) -> Regex:
        if len(self.text) > TEXT_LIMIT:
            raise Bad(f"is longer than {TEXT_LIMIT} characters")
        for at, character in enumerate(self.text):
            if not 0x20 <= ord(character) <= 0x7E:
                why = f"character {at + 1} is no printable ASCII"
                raise Bad(why, r"write bytes as \xHH")
        if self._take("(?i)"):
            self.either_case = True
        node = self._choice()
        if self.at < len(self.text):
            raise self._bad("a ')' without its '('", r"write \) for the character")
        self._check_length(node)
        return Regex(self.text, node, self.end)

    def _check_length(self, node: Node) -> None:
        if shortest(node) > self.depth:
            raise Bad(f"needs more than the first {self.depth} bytes of a payload")
        if shortest(node) == 0:
            raise Bad("matches every payload", "leave it out, or say what has to be there")
        if self.end:
            most = longest(node)
            if most is None or most > self.depth:
                raise Bad(
                    f"'$' after what may be longer than {self.depth} bytes",
                    "leave '$' away, or say with 'length' how long the payload may be",
                )

    def _bad(self, why: str, hint: str = "") -> Bad:
        return Bad(f"{why} (character {min(self.at, len(self.text)) + 1})", hint)

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self, wanted: str) -> bool:
        if self.text.startswith(wanted, self.at):
            self.at += len(wanted)
            return True
        return False

    def _next(self) -> str:
        if self.at >= len(self.text):
            raise self._bad("ends too early")
        self.at += 1
        return self.text[self.at - 1]

    def _choice(self) -> Node:
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        if len(branches) == 1:
            return branches[0]
        if self.end:
            raise Bad("'$' after one of several alternatives", "put them into ( )")
        if all(isinstance(branch, Byte) for branch in branches):
            mask = 0
            for branch in branches:
                assert isinstance(branch, Byte)
                mask |= branch.mask
            return Byte(mask)
        return Choice(tuple(branches))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while (character := self._peek()) and character not in "|)":
            if character == "$":
                if self.at + 1 < len(self.text) or self.groups:
                    raise self._bad(
                        "'$' stands only at the very end", r"write \$ for the character"
                    )
                self.at += 1
                self.end = True
            else:
                parts.append(self._repeated(self._atom()))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _repeated(self, node: Node) -> Node:
        if (quantifier := self._peek()) not in _QUANTIFIERS or not quantifier:
            return node
        low, high = self._counts()
        if self._peek() and self._peek() in _QUANTIFIERS:
            raise self._bad("one quantifier behind another", "put what the first holds into ( )")
        return Repeat(node, low, high)

    def _counts(self) -> tuple[int, int | None]:
        quantifier = self._next()
        if quantifier != "{":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[quantifier]
        low = self._count()
        high: int | None = low
        if self._take(","):
            high = None if self._peek() == "}" else self._count()
        if not self._take("}"):
            raise self._bad("a '{' without its '}'", r"write \{ for the character")
        if high is not None and high < low:
            raise self._bad("a count that ends before it begins")
        return low, high

    def _count(self) -> int:
        begin = self.at
        while self._peek().isdigit():
            self.at += 1
        digits = self.text[begin : self.at]
        if not digits:
            raise self._bad("a '{' without a count", r"write \{ for the character")
        if len(digits) > 4 or int(digits) > self.depth:
            raise self._bad(f"a count above {self.depth}")
        return int(digits)

    def _atom(self) -> Node:
        character = self._next()
        if character == "(":
            return self._group()
        if character in _QUANTIFIERS:
            self.at -= 1
            raise self._bad(f"a {character!r} behind nothing", rf"write \{character} for the byte")
        if character == "^":
            raise self._bad("every match begins at the first byte", r"write \^ for the character")
        if character == ".":
            return Byte(ANY)
        if character == "[":
            return Byte(self._class())
        if character == "\\":
            return Byte(self._cased(self._escape()))
        return Byte(self._cased(1 << ord(character)))

    def _group(self) -> Node:
        if self._peek() == "?":
            if self._take("?i)"):
                raise self._bad("'(?i)' stands only at the very start")
            raise self._bad("groups have no '?'", "a group is ( ) and captures nothing")
        self.groups += 1
        if self.groups > DEPTH_LIMIT:
            raise self._bad(f"more than {DEPTH_LIMIT} groups within each other")
        node = self._choice()
        if not self._take(")"):
            raise self._bad("a '(' without its ')'", r"write \( for the character")
        self.groups -= 1
        return node

    def _cased(self, mask: int) -> int:
        """With (?i), the letters of a set in both cases."""
        if not self.either_case:
            return mask
        return mask | (mask & _UPPER) << 32 | (mask & _LOWER) >> 32

    def _escape(self) -> int:
        """The set of what stands behind a backslash."""
        character = self._next()
        if character == "x":
            digits = self.text[self.at : self.at + 2]
            if len(digits) < 2 or not set(digits) <= _HEX:
                raise self._bad(r"\x without two hexadecimal digits")
            self.at += 2
            return 1 << int(digits, 16)
        if character == "m":
            return self._masked()
        if character == "0" and self._peek().isdigit():
            raise self._bad(r"a digit behind \0", r"write \x00 for the byte")
        if character in _CONTROLS:
            return 1 << _CONTROLS[character]
        if character in _CLASSES:
            return _CLASSES[character]
        if character.isalnum():
            raise self._bad(rf"unknown escape \{character}")
        return 1 << ord(character)

    def _masked(self) -> int:
        r"""\m{f0:40}: bytes b with b & 0xf0 == 0x40."""
        inside = self.text[self.at : self.at + 7]
        digits = inside[1:3] + inside[4:6]
        if inside[:1] + inside[3:4] + inside[6:] != "{:}" or not set(digits) <= _HEX:
            raise self._bad(r"\m is not written as \m{f0:40}")
        mask, wanted = int(digits[:2], 16), int(digits[2:], 16)
        if wanted & ~mask:
            raise self._bad(rf"\m{inside} matches no byte")
        self.at += 7
        return sum(1 << byte for byte in range(256) if byte & mask == wanted)

    def _class(self) -> int:
        negated = self._take("^")
        mask, begin = 0, self.at
        while not self._take("]"):
            if not self._peek():
                raise self._bad("a '[' without its ']'", r"write \[ for the character")
            mask |= self._class_item()
        if self.at == begin + 1:
            raise self._bad("an empty [ ]", r"write \] for the character")
        mask = self._cased(mask)
        if negated:
            mask ^= ANY
        if not mask:
            raise self._bad("a [^ ] that no byte is in")
        return mask

    def _class_item(self) -> int:
        """A byte, a set, or a range."""
        character = self._next()
        first = self._escape() if character == "\\" else 1 << ord(character)
        if self._peek() != "-" or self.text[self.at + 1 : self.at + 2] in ("]", ""):
            return first
        self.at += 1
        character = self._next()
        last = self._escape() if character == "\\" else 1 << ord(character)
        if first.bit_count() > 1 or last.bit_count() > 1:
            raise self._bad("a range from or to more than one byte")
        if last < first:
            raise self._bad("a range that ends before it begins")
        return _span(first.bit_length() - 1, last.bit_length() - 1)
