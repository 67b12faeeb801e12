# SPDX-License-Identifier: Apache-2.0
"""Loading without attaching: constants, tail-call tables, reloads, the kernel's clocks."""

import gzip
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from xdpprobe import catalogue as catalogues
from xdpprobe import syscall
from xdpprobe.abi import ARRAY, load_abi
from xdpprobe.catalogue import Catalogue
from xdpprobe.clock import Clock, measure_rate
from xdpprobe.errors import DataError, KernelError
from xdpprobe.libbpf import Object
from xdpprobe.loader import Loaded, load_object, load_tables, stage_programs
from xdpprobe.rules import NameRule
from xdpprobe.snapshot import Label

FRAME = bytes(64)


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    with load_object(flows=1024, names=1024) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return catalogues.load()


def test_tables_have_the_sizes_asked_for(loaded: Loaded) -> None:
    assert len(loaded.array("flow_hot")) == len(loaded.array("flow_cold")) == 1024
    assert len(loaded.array("names")) == 1024
    assert syscall.map_info(loaded.map_fd("flow_hot")).max_entries == 1024 // 8


def test_elements_that_do_not_come_are_not_read_as_zeros() -> None:
    fd = syscall.create_map(ARRAY, "four", 4, 8, 4)
    try:
        for key in range(4):
            syscall.update(fd, key, bytes([key] * 8), "")
        assert syscall.lookup_all(fd, 4, 8) == b"".join(bytes([key] * 8) for key in range(4))
        with pytest.raises(KernelError, match=r"cannot read a map: 4 of 5 elements came"):
            syscall.lookup_all(fd, 5, 8)
    finally:
        os.close(fd)


def test_every_stage_is_in_its_table(loaded: Loaded) -> None:
    for table, programs in stage_programs(loaded.abi).items():
        for index, name in programs.items():
            value = syscall.lookup(loaded.map_fd(table), index, 4)
            assert value is not None
            number = int.from_bytes(value, "little")
            assert number == syscall.program_info(loaded.prog_fd(name)).id


def test_stages_of_a_hook_that_is_not_wanted_stay_away() -> None:
    with load_object(flows=1024, names=1024, programs=("tc_egress",), hz=250) as loaded:
        assert syscall.lookup(loaded.map_fd("tc_stages"), 0, 4) is not None
        assert syscall.lookup(loaded.map_fd("xdp_stages"), 0, 4) is None
        with pytest.raises(KernelError):
            loaded.prog_fd("xdp_entry")


def test_unknown_constant_is_named() -> None:
    with pytest.raises(DataError, match="no constant sloth"):
        load_object({"sloth": 1}, flows=1024, hz=250)


def test_constant_of_a_wrong_size_is_named() -> None:
    with pytest.raises(DataError, match="l4_protocol has 512 bytes, not 3"):
        load_object({"l4_protocol": b"abc"}, flows=1024, hz=250)


def test_tables_that_do_not_fit_name_the_option() -> None:
    with Object(load_abi().path) as huge:
        huge.choose_programs({"xdp_entry"})
        huge.resize("flow_hot", (1 << 32) - 1)
        with pytest.raises(KernelError):
            huge.load()


def test_the_verifiers_words_are_told(tmp_path: Path, loaded: Loaded) -> None:
    """A program that the verifier must refuse: its last instruction is overwritten."""
    data = bytearray(loaded.abi.path.read_bytes())
    with loaded.abi.path.open("rb") as file:
        section = ELFFile(file).get_section_by_name("xdp")
        start, size = section["sh_offset"], section["sh_size"]
    # Its exit becomes r0 = *(u64 *)(r5 + 0), and it runs off its end.
    data[start + size - 8 : start + size] = bytes.fromhex("7950000000000000")
    path = tmp_path / "broken.bpf.o"
    path.write_bytes(data)
    with pytest.raises(KernelError) as caught:
        load_object(path=path, hz=250, flows=1024, programs=("xdp_entry",))
    assert "refused program clock_read" in caught.value.what
    assert "the kernel says: " in caught.value.hint


def test_object_that_libbpf_cannot_read(tmp_path: Path, loaded: Loaded) -> None:
    """Sound as an ELF file, with relocations that point where no map is loaded."""
    data = bytearray(loaded.abi.path.read_bytes())
    with loaded.abi.path.open("rb") as file:
        section = ELFFile(file).get_section_by_name("xdp")
    start, size = section["sh_offset"], section["sh_size"]
    data[start : start + size] = bytes.fromhex("9500000000000000") * (size // 8)
    path = tmp_path / "broken.bpf.o"
    path.write_bytes(data)
    with pytest.raises(DataError, match="libbpf"):
        load_object(path=path, hz=250, flows=1024)


def test_nothing_is_left_after_close() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        load_object(flows=1024, names=1024, programs=("xdp_entry",), hz=250).close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_tick_rate_is_that_of_the_kernels_configuration() -> None:
    rate = measure_rate(load_abi())
    assert rate in (100, 250, 300, 1000)
    texts = [Path(f"/boot/config-{os.uname().release}"), Path("/proc/config.gz")]
    for path in texts:
        if path.exists():
            data = path.read_bytes()
            text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
            found = re.search(r"^CONFIG_HZ=(\d+)", text, re.MULTILINE)
            assert found
            assert rate == int(found[1])


def test_clock_reads_the_monotonic_clock(loaded: Loaded) -> None:
    clock = Clock(loaded.prog_fd("clock_read"), loaded.map_fd("clock"))
    before = time.monotonic_ns()
    reading = clock.reading(loaded.hz)
    assert before <= reading.monotonic_ns <= time.monotonic_ns()
    assert reading.realtime_ns / 1e9 == pytest.approx(time.time(), abs=0.5)


def match(loaded: Loaded, name: str) -> int | None:
    """suffix_app of the rule that the kernel finds for a name, in the tables in force."""
    generation = int(loaded.array("control")["generation"][0]) & 1
    number = syscall.lookup(loaded.map_fd("name_rules"), generation, 4)
    assert number is not None
    dtype = loaded.abi.dtype("name_key")
    key = np.zeros((), dtype)
    text = name[::-1].encode() + b"."
    key["prefix_bits"] = 8 * len(text)
    key["text"][: len(text)] = np.frombuffer(text, np.uint8)
    rule = loaded.abi.dtype("name_rule")
    fd = syscall.open_map(int.from_bytes(number, "little"))
    try:
        value = syscall.lookup(fd, key.tobytes(), rule.itemsize)
    finally:
        os.close(fd)
    return None if value is None else int(np.frombuffer(value, rule)["suffix_app"][0])


def test_reload_swaps_rules_and_labels(loaded: Loaded, catalogue: Catalogue) -> None:
    count = load_tables(loaded, catalogue)
    labels = loaded.tables().labels()
    assert labels == catalogue.labels
    assert labels[match(loaded, "www.youtube.com") or 0].name == "youtube"
    assert match(loaded, "notyoutube.com.example") is None
    info = loaded.tables().read("info")
    assert int(info["rules"]) == count
    assert info["signatures"].tobytes() == catalogue.digest
    other = replace(
        catalogue,
        rules=[NameRule("example", 8000)],
        ech_names=frozenset(),
        labels={**catalogue.labels, 8000: Label(8000, "example", "other", "application")},
    )
    assert load_tables(loaded, other) == 1
    assert match(loaded, "notyoutube.com.example") == 8000
    assert match(loaded, "www.youtube.com") is None
    elements = [syscall.lookup(loaded.map_fd("name_rules"), i, 4) for i in (0, 1)]
    assert elements.count(None) == 1


def test_failed_reload_changes_nothing(
    loaded: Loaded, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_tables(loaded, catalogue)
    before = [loaded.array(name).tobytes() for name in ("control", "labels")]
    info = loaded.tables().read("info")
    inner = loaded.abi.maps["name_rules"].inner
    assert inner is not None
    room = len(catalogue.rules)
    small = replace(loaded.abi.maps["name_rules"], inner=replace(inner, max_entries=room))
    maps = {**loaded.abi.maps, "name_rules": small}
    monkeypatch.setattr(loaded, "abi", replace(loaded.abi, maps=maps))
    names = (f"n{number}.example" for number in range(room + 1))
    too_many = replace(
        catalogue,
        rules=[NameRule(name, 8001) for name in names],
        labels={**catalogue.labels, 8001: Label(8001, "late", "other", "application")},
    )
    with pytest.raises(KernelError, match="name rules"):
        load_tables(loaded, too_many)
    with pytest.raises(DataError):
        load_tables(loaded, replace(catalogue, entries={}))
    assert before == [loaded.array(name).tobytes() for name in ("control", "labels")]
    assert info == loaded.tables().read("info")
    assert match(loaded, "www.youtube.com")


def test_a_number_keeps_its_name_while_the_probe_lives(loaded: Loaded, tmp_path: Path) -> None:
    def own(name: str, category: str = "work") -> Catalogue:
        file = tmp_path / "own.toml"
        file.write_text(
            f'[[app]]\nid = 8002\nname = "{name}"\ntitle = "Own"\ncategory = "{category}"\n'
            f'domains = ["{name}.test"]\n'
        )
        found = catalogues.load([file])
        rules = [NameRule(f"{name}.test", 8002)]
        return replace(found, rules=rules, signatures=(), prefixes={}, digest=bytes(32))

    load_tables(loaded, own("intranet"))
    load_tables(loaded, catalogues.load())  # the file is gone, what it counted is not
    assert loaded.tables().labels()[8002].name == "intranet"
    before = loaded.tables().read("info")
    with pytest.raises(DataError) as refused:
        load_tables(loaded, own("wiki"))
    assert str(refused.value) == (
        f"{tmp_path}/own.toml:2: id 8002 is intranet in the running probe, not wiki;"
        " take another number, or detach and attach anew"
    )
    assert before == loaded.tables().read("info")
    load_tables(loaded, own("intranet", "web"))
    assert loaded.tables().labels()[8002].category == "web"


def test_an_interrupt_while_loading_is_not_lost() -> None:
    """Whenever it comes: libbpf calls back into Python, from where no exception gets out."""
    # A shell's background job is born with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])

    def load() -> None:
        timer.start()
        load_object(flows=1024, names=1024, hz=250).close()
        timer.join(10)  # where loading was faster, it comes here

    try:
        with pytest.raises(KeyboardInterrupt):
            load()
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
