# SPDX-License-Identifier: Apache-2.0
"""The objects' loops are such that Linux 6.1 takes them: a compiler may lay one out otherwise."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

OBJECTS = sorted((Path(__file__).resolve().parents[2] / "xdpprobe/data").glob("*.bpf.o"))
# Opcodes (RFC 9669): the classes of jumps, and what ends or does not end in one.
JMP, JMP32, CLASS = 0x05, 0x06, 0x07
JA, CALL, EXIT, LD_IMM64 = 0x05, 0x85, 0x95, 0x18

Edges = dict[int, list[tuple[int, bool]]]  # instruction -> where to, and whether by a jump


def functions(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as file:
        elf = ELFFile(file)
        for symbol in elf.get_section_by_name(".symtab").iter_symbols():
            if symbol["st_info"]["type"] == "STT_FUNC":
                code = elf.get_section(symbol["st_shndx"]).data()
                start = symbol["st_value"]
                yield symbol.name, code[start : start + symbol["st_size"]]


def edges(code: bytes) -> Edges:
    """As check_cfg() of Linux 6.1 sees them, in its order."""
    found: Edges = {}
    for at, (opcode, _, offset, _) in enumerate(struct.iter_unpack("<BBhi", code)):
        if opcode == EXIT:
            found[at] = []
        elif opcode == JA:
            found[at] = [(at + 1 + offset, True)]
        elif opcode & CLASS in (JMP, JMP32) and opcode != CALL:
            found[at] = [(at + 1, True), (at + 1 + offset, True)]
        else:
            found[at] = [(at + (2 if opcode == LD_IMM64 else 1), False)]
    return found


def fallen_into(code: bytes) -> list[int]:
    """Instructions behind which a loop begins anew without a jump (kernel/bpf/verifier.c of 6.1,
    push_insn() with loop_ok false: "back-edge")."""
    steps, bad = edges(code), []
    on_the_way, seen, stack = {0}, {0}, [(0, 0)]
    while stack:
        at, turn = stack.pop()
        if turn == len(steps[at]):
            on_the_way.discard(at)
            continue
        stack.append((at, turn + 1))
        to, jump = steps[at][turn]
        if to in on_the_way and not jump:
            bad.append(at)
        if to not in seen:
            seen.add(to)
            on_the_way.add(to)
            stack.append((to, 0))
    return bad


@pytest.mark.skipif(not OBJECTS, reason="the objects are not built")
@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_every_loop_is_closed_by_a_jump(path: Path) -> None:
    code = dict(functions(path))
    assert len(code) > 1
    assert [name for name in code if fallen_into(code[name])] == []


def test_a_loop_that_is_fallen_into_is_seen() -> None:
    """0: if r1 == 0 goto 3; 1: r1 += 1; 2: goto 4; 3: r1 -= 1; 4: if r1 != 0 goto 3; 5: exit."""
    lines = [(0x15, 1, 2, 0), (0x07, 1, 0, 1), (JA, 0, 1, 0), (0x17, 1, 0, 1), (0x55, 1, -2, 0)]
    code = b"".join(struct.pack("<BBhi", *line) for line in [*lines, (EXIT, 0, 0, 0)])
    assert fallen_into(code) == [3]
