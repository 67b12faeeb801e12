# SPDX-License-Identifier: Apache-2.0
"""How much work the verifier has with the programs: more of it means kernels that refuse them."""

import platform
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xdpprobe import syscall
from xdpprobe.loader import ENTRIES, Loaded, load_object, stage_programs
from xdpprobe.settings import PRIVACY, TUNNELS

ACKNOWLEDGED = Path(__file__).with_name("verified.toml")
GROWTH = 1.25
MOST_WORK = {"tunnels": TUNNELS.index("inner"), "privacy": PRIVACY.index("cut")}


@pytest.fixture(scope="module")
def laden() -> Iterator[Loaded]:
    """All programs, with the options that give them the most code."""
    with load_object(MOST_WORK, flows=1024, names=1024, hz=250) as loaded:
        yield loaded


def acknowledged(kernel: str) -> dict[str, int]:
    """Program -> instructions that this kernel's verifier may take; the most of all, where the
    kernel is not listed."""
    known: dict[str, dict[str, int]] = tomllib.loads(ACKNOWLEDGED.read_text())
    if kernel in known:
        return known[kernel]
    programs = {program for column in known.values() for program in column}
    return {name: max(column.get(name, 0) for column in known.values()) for name in programs}


def test_the_verifier_has_no_more_work_than_was_acknowledged(
    laden: Loaded, record_property: Callable[[str, object], None]
) -> None:
    kernel = ".".join(platform.release().split(".")[:2])
    stages = [name for table in stage_programs(laden.abi).values() for name in table.values()]
    found = {}
    for name in sorted([*ENTRIES, *stages]):
        found[name] = syscall.program_info(laden.prog_fd(name)).verified
        record_property(f"verified {name}", found[name])
    limits = {name: count * GROWTH for name, count in acknowledged(kernel).items()}
    grown = {name: count for name, count in found.items() if count > limits.get(name, 0)}
    assert not grown, f'if this is wanted, write it below ["{kernel}"] of {ACKNOWLEDGED.name}'
