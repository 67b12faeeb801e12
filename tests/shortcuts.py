# SPDX-License-Identifier: Apache-2.0
"""Work that a test run does once where a machine is very slow (XDPPROBE_EFFORT below 1).

Reading the shipped signatures and making tables of them takes a guest without KVM a second each
time, and says nothing of its kernel.
"""

import functools
import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xdpprobe import catalogue, public_suffix, signature_file, tables
from xdpprobe.catalogue import Catalogue
from xdpprobe.explain import observe
from xdpprobe.patterns import cache
from xdpprobe.signature_file import Contents

_load, _compile_rules = catalogue.load, tables.compile_rules
_compile_signatures = observe.compile_signatures
_tables_of = cache.tables_of
_compiled: dict[tuple[int, bool], tuple[object, Any]] = {}
_tables: dict[tuple[bytes, int, bytes], Any] = {}
_loaded: dict[tuple[int, tuple[tuple[Path, bytes], ...]], Catalogue] = {}
_explained: dict[int, tuple[object, Any]] = {}


def _load_once(directories: Sequence[Path] | None = None) -> Catalogue:
    files = tuple(directories or ())
    if not all(file.is_file() for file in files):
        return _load(files)
    place = catalogue.RULE_LIMIT, tuple((file, file.read_bytes()) for file in files)
    if place not in _loaded:
        _loaded[place] = _load(files)
    return _loaded[place]


def _compile_once(rules: Any, key: Any, rule: Any, suffixes: Any = None, hidden: Any = None) -> Any:
    place = id(rules), suffixes is not None
    if place not in _compiled:  # what is kept keeps the number its own
        _compiled[place] = rules, _compile_rules(rules, key, rule, suffixes, hidden)
    return _compiled[place][1]


def _explain_once(signatures: Any, abi: Any) -> Any:
    if id(signatures) not in _explained:
        _explained[id(signatures)] = signatures, _compile_signatures(signatures, abi)
    return _explained[id(signatures)][1]


def _tables_once(signatures: Any, digest: bytes, abi: Any) -> Any:
    place = digest, len(signatures), abi.digest
    if place not in _tables:
        _tables[place] = _tables_of(signatures, digest, abi)
    return _tables[place]


def _reader(parse: Callable[[Path, bytes], Contents]) -> Callable[[Path, bytes], Contents]:
    """`parse`, or what it said where the guest was made (vm-test/image.py)."""
    file = os.environ.get("XDPPROBE_READ")
    read = pickle.loads(Path(file).read_bytes()) if file else {}

    def look(path: Path, data: bytes) -> Contents:
        found: Contents | None = read.get((path, data))
        return found or parse(path, data)

    return look


def take() -> None:
    """From here on, for the whole process."""
    signature_file.parse = _reader(functools.cache(signature_file.parse))
    public_suffix.load = functools.cache(public_suffix.load)
    catalogue.load = _load_once
    tables.compile_rules = _compile_once
    cache.tables_of = _tables_once
    observe.compile_signatures = _explain_once
