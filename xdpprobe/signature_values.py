# SPDX-License-Identifier: Apache-2.0
"""What the values in signature files may be: one function a kind of value, or why it is wrong."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from xdpprobe import peer_text

# The only place that lists them. bpf/abi.h leaves a name 31 bytes and a category 23.
# fmt: off
CATEGORIES = frozenset((
    "adult", "ads", "ai", "cdn", "cloud", "conferencing", "dating", "dev", "education", "finance",
    "games", "government", "iot", "mail", "media", "messaging", "music", "name-resolution",
    "network", "news", "remote-access", "routing", "search", "security", "shopping", "social",
    "sports", "storage", "travel", "tunnel", "updates", "video", "vpn", "web", "work",
))
# fmt: on
NAME_LIMIT = 31
DOMAIN_LIMIT = 63  # NAME_KEY_LEN of bpf/abi_knowledge.h, less the dot that ends a reversed name

_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


class Bad(Exception):
    """A value that is wrong: why, what to try, and (as far as known) the string at fault."""

    def __init__(self, why: str, hint: str = "", value: object = None) -> None:
        super().__init__(why)
        self.why, self.hint, self.value = why, hint, value


def brief(why: str) -> str:
    """A reason that quotes a value of any length, in one line that can be read."""
    return why if len(why) <= 300 else f"{why[:100]}...{why[-190:]}"


def number(numbers: range) -> Callable[[object], int]:
    """A check: a whole number within a range."""

    def check(value: object) -> int:
        if type(value) is not int:
            raise Bad("is not a whole number")
        if value not in numbers:
            raise Bad(f"{value} is not within {numbers[0]}..{numbers[-1]}")
        return value

    return check


def slug(value: object) -> str:
    """A name as reports and filters use it."""
    if not isinstance(value, str) or not _SLUG.fullmatch(value) or len(value) > NAME_LIMIT:
        raise Bad(
            f"{value!r} is not 1 to {NAME_LIMIT} lower-case letters and digits,"
            " in groups joined by '-'"
        )
    return value


def category(value: object) -> str:
    """One of the closed list."""
    if not isinstance(value, str) or value not in CATEGORIES:
        raise Bad(f"{value!r} is not a category", "known are " + ", ".join(sorted(CATEGORIES)))
    return value


def line_of_text(limit: int) -> Callable[[object], str]:
    """A check: printable, and not longer than that."""

    def check(value: object) -> str:
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= limit:
            raise Bad(f"{value!r} is not 1 to {limit} printable characters")
        return value

    return check


def items(value: object) -> list[object]:
    """A list with something in it."""
    if not isinstance(value, list) or not value:
        raise Bad("is not a list with something in it")
    return value


def once(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same items, none of which may stand there twice."""
    if len(set(items)) < len(items):
        counts = Counter(items)
        twice = next(item for item in items if counts[item] > 1)
        raise Bad(f"{twice!r} stands in it twice", value=twice)
    return items


def domains(value: object) -> tuple[str, ...]:
    """Domain names as they go over the wire."""
    return once(tuple([_domain(item) for item in items(value)]))


def _domain(value: object) -> str:
    if not isinstance(value, str):
        raise Bad(f"{value!r} is not a string")
    if len(value) <= DOMAIN_LIMIT and _DOMAIN.fullmatch(value):
        if value.rpartition(".")[2].isdigit():
            raise Bad(f"{value!r} is an address, not a name", value=value)
        return value
    why, hint = _domain_mistake(value)
    raise Bad(f"{value!r} {why}", hint, value)


def _domain_mistake(value: str) -> tuple[str, str]:
    if "*" in value:
        return "has a wildcard", "'domains' match all names below them as they are"
    if not value.isascii():
        return "is not ASCII", "write it as it goes over the wire (punycode, xn--...)"
    if value != value.lower():
        return "has capital letters", "write it in lower case"
    if len(value) > DOMAIN_LIMIT:
        return f"is longer than {DOMAIN_LIMIT} bytes", "a shorter suffix of it will do"
    return "is not a domain name", "labels of letters, digits, '-' and '_', with dots between"


def prefix(value: object) -> tuple[str, ...]:
    """Prefixes of addresses, each as it is shown."""
    found = []
    for item in items(value):
        if not isinstance(item, str):
            raise Bad(f"{item!r} is not a string")
        try:
            peer_text.parse_prefix(item)
        except peer_text.Mistake as mistake:
            raise Bad(mistake.why, mistake.hint, item) from None
        found.append(item)
    return once(tuple(found))


def l4(value: object) -> tuple[int, ...]:
    """IP protocol numbers that mean a protocol by themselves."""
    numbers = []
    for item in items(value):
        if type(item) is not int or item not in range(256):
            raise Bad(f"{item!r} is not an IP protocol number (0..255)")
        if item in (6, 17):
            raise Bad(f"{item} is TCP or UDP, whose flows are named by what they carry")
        numbers.append(item)
    return once(tuple(numbers))
