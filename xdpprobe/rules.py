# SPDX-License-Identifier: Apache-2.0
"""Name rules as the data plane wants them: a longest-prefix table over reversed names.

The kernel looks a server name up once and takes what the longest matching entry says; it never
walks back to a shorter one. So everything a shorter rule would have said has to stand in the
longer one too, and this module puts it there. `match` answers the same question by another way,
name by name: tests hold the two against each other, and the command line uses it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Dtype = np.dtype[Any]


class NameRule(NamedTuple):
    """`name` (lower case, no dot at its end) belongs to the application with label id `app`.

    exact: that very name only; else the name and all below it, on label boundaries.
    """

    name: str
    app: int
    exact: bool = False


@dataclass(frozen=True, slots=True)
class PublicSuffix:
    """What the public suffix list says at a node and below it.

    length: bytes of the public suffix; wildcard: the suffix has one label more in front of them.
    """

    length: int
    wildcard: bool = False


@dataclass(slots=True)
class _Node:
    suffix_app: int = 0
    exact_app: int = 0
    public_suffix: PublicSuffix | None = None
    flags: int = 0


def compile_rules(
    rules: Iterable[NameRule],
    key_dtype: Dtype,
    rule_dtype: Dtype,
    public_suffixes: Mapping[str, PublicSuffix] | None = None,
    ech_names: Mapping[str, int] | None = None,
) -> list[tuple[bytes, bytes]]:
    """The (key, value) pairs of the kernel's table; of two alike rules the later one counts.

    key_dtype, rule_dtype: struct name_key and struct name_rule of bpf/abi_knowledge.h.
    public_suffixes: node -> suffix, wanted only where names are cut to the registered domain.
    ech_names: names that stand for encrypted ones -> the flag that says so.
    Raises ValueError for a name that does not fit the key (the catalogue refuses it earlier).
    """
    nodes = _nodes(rules, public_suffixes or {}, ech_names or {})
    if not nodes:
        return []
    _inherit(nodes)
    keys = _keys(list(nodes), key_dtype)
    values = np.zeros(len(nodes), rule_dtype)
    values["suffix_app"] = [node.suffix_app for node in nodes.values()]
    values["exact_app"] = [node.exact_app for node in nodes.values()]
    values["length"] = [len(name) for name in nodes]
    suffixes = [node.public_suffix or PublicSuffix(0) for node in nodes.values()]
    values["public_suffix"] = [suffix.length for suffix in suffixes]
    values["flags"] = [node.flags for node in nodes.values()]
    values["wildcard"] = [suffix.wildcard for suffix in suffixes]
    return list(zip(_slices(keys), _slices(values), strict=True))


def _nodes(
    rules: Iterable[NameRule],
    public_suffixes: Mapping[str, PublicSuffix],
    ech_names: Mapping[str, int],
) -> dict[str, _Node]:
    """One node a name, with what was said of this very name; parents before children."""
    nodes: dict[str, _Node] = {}
    for rule in rules:
        node = nodes.setdefault(rule.name, _Node())
        if rule.exact:
            node.exact_app = rule.app
        else:
            node.suffix_app = rule.app
    for name, suffix in public_suffixes.items():
        nodes.setdefault(name, _Node()).public_suffix = suffix
    for name, flag in ech_names.items():
        nodes.setdefault(name, _Node()).flags |= flag
    return dict(sorted(nodes.items(), key=lambda item: len(item[0])))


def _inherit(nodes: dict[str, _Node]) -> None:
    """Fill what a node leaves open from its nearest ancestor, which is complete already."""
    for name, node in nodes.items():
        if node.suffix_app and node.public_suffix:
            continue
        parent = _ancestor(nodes, name)
        if parent is None:
            continue
        node.suffix_app = node.suffix_app or parent.suffix_app
        node.public_suffix = node.public_suffix or parent.public_suffix


def _ancestor(nodes: Mapping[str, _Node], name: str) -> _Node | None:
    while dot := name.find(".") + 1:
        name = name[dot:]
        if (node := nodes.get(name)) is not None:
            return node
    return None


def _keys(names: list[str], dtype: Dtype) -> npt.NDArray[Any]:
    """Struct name_key of each name: reversed, a dot at the end, zeros after it."""
    keys = np.zeros(len(names), dtype)
    width = dtype["text"].itemsize
    texts = [name[::-1].encode("ascii") + b"." for name in names]
    for name, text in zip(names, texts, strict=True):
        if len(text) > width:
            raise ValueError(f"{name}: longer than the {width - 1} bytes a rule may have")
    padded = b"".join(text.ljust(width, b"\0") for text in texts)
    keys["text"] = np.frombuffer(padded, np.uint8).reshape(len(names), width)
    keys["prefix_bits"] = [8 * len(text) for text in texts]
    return keys


def _slices(array: npt.NDArray[Any]) -> list[bytes]:
    data, size = array.tobytes(), array.itemsize
    return [data[at : at + size] for at in range(0, len(data), size)]


class RuleIndex:
    """Rules by name, to be asked what a server name would be called."""

    def __init__(self, rules: Iterable[NameRule]) -> None:
        self._exact: dict[str, int] = {}
        self._suffix: dict[str, int] = {}
        for rule in rules:
            (self._exact if rule.exact else self._suffix)[rule.name] = rule.app

    def match(self, name: str) -> tuple[int, str]:
        """(label id, rule that said so), or (0, "") for a name that no rule knows.

        The rule is written as its name, with "=" in front when it holds for that name only.
        """
        name = name.lower().removesuffix(".")
        if app := self._exact.get(name):
            return app, f"={name}"
        labels = name.split(".")
        for first in range(len(labels)):
            rule = ".".join(labels[first:])
            if app := self._suffix.get(rule):
                return app, rule
        return 0, ""
