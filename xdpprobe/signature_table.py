# SPDX-License-Identifier: Apache-2.0
"""One [[signature]] table: what of a flow's first packets means a protocol or an application.

Names are not looked up here, as what they mean may stand in another file: `catalogue.py` does that.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from xdpprobe import signature_texts
from xdpprobe import signature_values as values
from xdpprobe.errors import DataError
from xdpprobe.patterns.regex import Regex, parse_regex
from xdpprobe.signature_source import SourceText
from xdpprobe.signature_texts import Text
from xdpprobe.signature_values import Bad, brief

# bpf/abi.h has room for so much; tests hold these against it.
LENGTH_MAX = 2047  # longer payloads count as this long
PACKETS = 8  # payload packets of a direction that are looked at
DEPTH = 256  # bytes of a payload that are looked at
SEARCH_MAX = 255

FINAL_CONFIDENCE = 90  # from here on a match ends the inspection of a flow
PATTERN_CONFIDENCE, PORT_CONFIDENCE = 90, 20
REGEX_LIMIT = 8  # `match` of one signature
PLUS_LIMIT = 65535
MULTIPLIER_LIMIT = 255
SOURCE_LIMIT = 200


class Span(NamedTuple):
    """Whole numbers from `low` to `high`, both taken in."""

    low: int
    high: int


ANY_LENGTH, FIRST_PACKET = Span(1, LENGTH_MAX), Span(1, 1)


class LengthField(NamedTuple):
    """A number in the payload that says how long it is: `value * multiplier + plus`."""

    at: int
    size: int
    little: bool = False
    plus: int = 0
    within: bool = False  # or less: more messages may follow
    multiplier: int = 1


@dataclasses.dataclass(eq=False, slots=True)
class Signature:
    """A signature as a file defines it; not to be changed.

    The catalogue fills in `protocol_id` and `app_id`. `length.high` is LENGTH_MAX where it is open.
    One that has `texts` is looked up by them: of the rest, only confidence and source count.
    """

    index: int  # of the table among the signatures of the file
    file: SourceText = dataclasses.field(repr=False)
    l4: str
    protocol: str = ""
    app: str = ""
    match: tuple[Regex, ...] = ()
    port: tuple[Span, ...] = ()
    length: Span = ANY_LENGTH
    field: LengthField | None = None
    sender: str = ""
    packet: Span = FIRST_PACKET
    name: str = ""
    after: str = ""
    search: int = 1
    confidence: int = PATTERN_CONFIDENCE
    source: str = ""
    texts: tuple[Text, ...] = ()
    protocol_id: int = 0
    app_id: int = 0

    def where(self, key: str = "", value: object = None) -> str:
        """`file:line` of the signature, or of a key or string in it."""
        return self.file.where("signature", self.index, key, value)

    @property
    def title(self) -> str:
        """What it finds, for messages."""
        return self.app or self.protocol or self.name

    @property
    def by_port(self) -> bool:
        """Whether it knows nothing but ports: the weakest evidence."""
        return not self.match and not self.texts

    @property
    def names(self) -> bool:
        """Whether it says what a flow is, and does not only note that it matched."""
        return bool(self.protocol or self.app)

    @property
    def final(self) -> bool:
        """Whether a flow is decided with it."""
        return self.names and not self.by_port and self.confidence >= FINAL_CONFIDENCE


def signature(source: SourceText, index: int, table: dict[str, object]) -> Signature:
    """Checks one table; raises DataError with file, line and reason."""
    for key in table:
        if key not in _KEYS:
            raise DataError(
                source.where("signature", index, key),
                f"unknown key {brief(repr(key))} in [[signature]]",
                f"known are {', '.join(_KEYS)}",
            )
    checked: dict[str, Any] = {}
    for key, value in table.items():
        try:
            checked[_FIELDS.get(key, key)] = _KEYS[key](value)
        except Bad as bad:
            where = source.where("signature", index, key, bad.value)
            raise DataError(where, f"{key}: {brief(bad.why)}", bad.hint) from None
    by_text = bool(checked.keys() & signature_texts.KEYS.keys())
    try:
        (signature_texts.check_together if by_text else _check_together)(checked)
    except Bad as bad:
        key = str(bad.value) if bad.value else ""
        raise DataError(source.where("signature", index, key), bad.why, bad.hint) from None
    if by_text:
        texts = [text for key in signature_texts.KEYS for text in checked.pop(key, ())]
        return Signature(index=index, file=source, l4="", texts=tuple(texts), **checked)
    checked.setdefault("packet", FIRST_PACKET if checked["l4"] == "tcp" else Span(1, PACKETS))
    if "match" not in checked:
        checked.setdefault("confidence", PORT_CONFIDENCE)
    return Signature(index=index, file=source, **checked)


def _check_together(given: dict[str, Any]) -> None:
    """What no value is wrong in by itself; `value` of a Bad is here the key to point at."""
    if "l4" not in given:
        raise Bad("[[signature]] has no 'l4'", 'say "udp" or "tcp"')
    if "match" not in given and "port" not in given:
        raise Bad("a signature has neither 'match' nor 'port'")
    if not given.keys() & {"protocol", "app", "name"}:
        raise Bad(
            "a signature has neither 'protocol' nor 'app'",
            "one that is only there for another's 'after' has a 'name'",
        )
    if given.get("search", 1) > 1:
        if len(given.get("match", ())) != 1:
            raise Bad("'search' needs one 'match'", value="search")
        if given["match"][0].end:
            raise Bad("'search' and '$' exclude each other", value="search")
    if given.get("after") and given["after"] == given.get("name"):
        raise Bad("a signature cannot come after itself", value="after")


def _word(*words: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise Bad(f"{value!r} is neither " + " nor ".join(repr(word) for word in words))
        return value

    return check


def _span(value: object, limits: range, open_end: int | None) -> Span:
    """A number, "low-high", or (where `open_end` says what it means) "low-"."""
    if type(value) is int:
        low = high = value
    else:
        text = value if isinstance(value, str) and len(value) <= 20 else ""
        first, dash, last = text.partition("-")
        numbers = [part for part in (first, last) if part]
        good = all(part.isascii() and part.isdigit() for part in numbers)
        if not (good and first and dash and (last or open_end is not None)):
            forms = '48, "48-80"' + (' or "48-"' if open_end is not None else "")
            raise Bad(f"{value!r} is no number and no range", f"write it as {forms}", value)
        low = int(first)
        high = int(last) if last else open_end or 0
    for number in (low, high):
        if number not in limits:
            why = f"{number} is not within {limits[0]}..{limits[-1]}"
            raise Bad(why, value=value)
    if low > high:
        raise Bad(f"{value!r} ends before it begins", value=value)
    return Span(low, high)


def _length(value: object) -> Span:
    open_low = isinstance(value, str) and value.endswith("-")
    if not open_low and isinstance(value, int | str):
        last = str(value).rpartition("-")[2]
        if last.isascii() and last.isdigit() and len(last) < 20 and int(last) >= LENGTH_MAX:
            raise Bad(
                f"{value!r}: from {LENGTH_MAX} bytes on lengths are not told apart",
                f'write "{min(int(str(value).partition("-")[0] or 0), LENGTH_MAX)}-"',
            )
    return _span(value, range(1, LENGTH_MAX + 1), LENGTH_MAX)


def _packet(value: object) -> Span:
    return _span(value, range(1, PACKETS + 1), PACKETS)


def _ports(value: object) -> tuple[Span, ...]:
    entries = values.items(value) if isinstance(value, list) else [value]
    return values.once(tuple([_span(item, range(65536), None) for item in entries]))


def _match(value: object) -> tuple[Regex, ...]:
    entries = values.items(value) if isinstance(value, list) else [value]
    if len(entries) > REGEX_LIMIT:
        raise Bad(f"has more than {REGEX_LIMIT} regexes, all of which would have to match")
    return tuple([_regex(item) for item in entries])


def _regex(value: object) -> Regex:
    if not isinstance(value, str):
        raise Bad(f"{value!r} is not a string")
    return parse_regex(value, DEPTH)


_FIELD_KEYS: dict[str, Callable[[object], Any]] = {
    "at": values.number(range(DEPTH)),
    "size": values.number(range(1, 5)),
    "order": _word("big", "little"),
    "plus": values.number(range(-PLUS_LIMIT, PLUS_LIMIT + 1)),
    "is": _word("equal", "within"),
    "multiplier": values.number(range(1, MULTIPLIER_LIMIT + 1)),
}


def _field(value: object) -> LengthField:
    if not isinstance(value, dict):
        raise Bad("is not a table", "write it as { at = 2, size = 2, plus = 4 }")
    given: dict[str, Any] = {}
    for key, part in value.items():
        if key not in _FIELD_KEYS:
            raise Bad(f"unknown key {brief(repr(key))}", f"known are {', '.join(_FIELD_KEYS)}")
        try:
            given[key] = _FIELD_KEYS[key](part)
        except Bad as bad:
            raise Bad(f"{key}: {bad.why}", bad.hint) from None
    for key in ("at", "size"):
        if key not in given:
            raise Bad(f"has no {key!r}")
    if given["at"] + given["size"] > DEPTH:
        raise Bad(f"stands behind the first {DEPTH} bytes")
    return LengthField(
        at=given["at"],
        size=given["size"],
        little=given.get("order") == "little",
        plus=given.get("plus", 0),
        within=given.get("is") == "within",
        multiplier=given.get("multiplier", 1),
    )


_KEYS: dict[str, Callable[[object], Any]] = {
    "protocol": values.slug,
    "app": values.slug,
    "l4": _word("udp", "tcp"),
    "match": _match,
    "port": _ports,
    "length": _length,
    "field": _field,
    "from": _word("initiator", "responder"),
    "packet": _packet,
    "name": values.slug,
    "after": values.slug,
    "search": values.number(range(1, SEARCH_MAX + 1)),
    "confidence": values.number(range(1, 101)),
    "source": values.line_of_text(SOURCE_LIMIT),
    **signature_texts.KEYS,
}
_FIELDS = {"from": "sender"}  # words that Python keeps for itself
