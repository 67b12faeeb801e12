# SPDX-License-Identifier: Apache-2.0
"""The tables that user space fills: labels, name rules, and the records about the probe itself.

A reload is atomic: the new rules are complete in a trie of their own before one number makes
every packet use them, and the old ones stay in force when anything fails on the way.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xdpprobe import peer_maps, peer_text, public_suffix, syscall
from xdpprobe.abi import ARRAY, Abi
from xdpprobe.catalogue import verify_protocols
from xdpprobe.clock import lasting_ns
from xdpprobe.errors import DataError
from xdpprobe.libbpf import possible_cpus
from xdpprobe.patterns import cache
from xdpprobe.patterns.texts import compile_texts
from xdpprobe.peer_file import Said
from xdpprobe.peer_sets import PeerSet, compile_set
from xdpprobe.rules import NameRule, compile_rules
from xdpprobe.settings import PRIVACY
from xdpprobe.signature_file import Entry
from xdpprobe.signature_table import Signature
from xdpprobe.snapshot import Label

Array = npt.NDArray[Any]
Elements = Sequence[tuple[bytes, bytes]]  # keys and values
Contents = Mapping[str, Elements]  # of new inner maps, by the array of maps they belong to
_KINDS = ("unused", "protocol", "application")


class Knowledge(Protocol):
    """What `catalogue.Catalogue` has and the tables need."""

    @property
    def labels(self) -> dict[int, Label]: ...
    @property
    def rules(self) -> list[NameRule]: ...
    @property
    def signatures(self) -> tuple[Signature, ...]: ...
    @property
    def prefixes(self) -> Mapping[str, int]: ...
    @property
    def ech_names(self) -> frozenset[str]: ...
    @property
    def entries(self) -> Mapping[int, Entry]: ...
    @property
    def digest(self) -> bytes: ...


def text(field: Array) -> str:
    """A NUL-padded u8 array as text."""
    return field.tobytes().rstrip(b"\0").decode(errors="surrogateescape")


def set_text(record: Array, field: str, value: str) -> None:
    """Writes text into a u8 array, cut to fit, NUL-padded."""
    size = record.dtype[field].itemsize
    octets = value.encode(errors="surrogateescape")  # a name may be of any bytes
    record[field] = np.frombuffer(octets[:size].ljust(size, b"\0"), np.uint8)


def _numbered(records: Array) -> Elements:
    """Elements of an array map."""
    return [(n.to_bytes(4, "little"), record.tobytes()) for n, record in enumerate(records)]


class Tables:
    """Reads and writes the tables of one instance; `map_fd` gives a map's descriptor by name."""

    def __init__(self, abi: Abi, map_fd: Callable[[str], int]) -> None:
        self.abi = abi
        self._map_fd = map_fd

    def map_fd(self, name: str) -> int:
        """A map's descriptor, which stays the instance's."""
        return self._map_fd(name)

    def array(self, name: str, writable: bool = False) -> Array:
        """A mappable map's values as records, live."""
        fd, dtype = self._map_fd(name), self.abi.element_dtype(name)
        info = syscall.map_info(fd)
        length = info.max_entries * info.value_size // dtype.itemsize
        return syscall.map_values(fd, dtype, length, writable)

    def read(self, name: str, index: int = 0) -> Array:
        """One element of an array map, copied: a record array of shape ()."""
        dtype = self.abi.element_dtype(name)
        data = syscall.lookup(self._map_fd(name), index, dtype.itemsize)
        return np.frombuffer(bytearray(data or bytes(dtype.itemsize)), dtype).reshape(())

    def write(self, name: str, record: Array, index: int = 0) -> None:
        """Replaces one element of an array map."""
        syscall.update(self._map_fd(name), index, record.tobytes(), f"cannot write map {name}")

    def blank(self, name: str) -> Array:
        """A zeroed record for `write`."""
        return np.zeros((), self.abi.element_dtype(name))

    def load(self, catalogue: Knowledge) -> int:
        """Makes a catalogue the one in force; returns how many rules it became.

        The caller holds the probe's lock. Raises DataError or StateError before anything has
        changed, KernelError with the old rules still in force.
        """
        verify_protocols(catalogue.entries, self.abi.enums["protocol"])
        self._refuse_other_names(catalogue)
        info = self.read("info")
        cut = int(info["privacy"]) == PRIVACY.index("cut")
        entries = compile_rules(
            catalogue.rules,
            self.abi.dtype("name_key"),
            self.abi.dtype("name_rule"),
            public_suffix.load() if cut else None,
            dict.fromkeys(catalogue.ech_names, self.abi.enums["name_flag"]["NAME_ECH_PUBLIC"]),
        )
        classes, automaton = cache.tables_of(catalogue.signatures, catalogue.digest, self.abi)
        texts = compile_texts(catalogue.signatures, self.abi)
        info["texts"] = len(texts)
        info["signatures"] = np.frombuffer(catalogue.digest, np.uint8)
        info["rules"] = len(entries)
        info["suffixes"] = cut
        info["loaded_ns"] = lasting_ns()
        tables = {
            "name_rules": entries,
            "match_tables": _numbered(classes),
            "match_automata": _numbered(automaton),
            "texts": texts,
        }
        published = {
            peer_text.parse_prefix(text): Said(label, 0)
            for text, label in catalogue.prefixes.items()
        }
        # Some are so wide that they take many places of the filter.
        self._publish(compile_set(published, self.abi, 4 * len(published)))
        self._swap(tables, catalogue.labels.values(), info)
        self._forget_published(any_left=bool(published))
        return len(entries)

    def restore_settings(self, before: Array) -> None:
        """Puts `info` back, but for what a load has written there."""
        info = self.read("info")
        for field in ("signatures", "rules", "texts", "suffixes", "loaded_ns", "cleared"):
            before[field] = info[field]
        self.write("info", before)

    def expect_names(self) -> None:
        """Notes that names of any privacy may be kept from here on."""
        self._note_cleared(0)

    def clear_names(self, privacy: str) -> bool:
        """Empties the table of server names, unless all have that privacy; whether it was needed.

        Flows that had a name are left without. What is noted does not follow from the settings: an
        attach may end between any two steps, and the next one has to know what is left to do.
        """
        wanted = PRIVACY.index(privacy)
        if not wanted or int(self.read("info")["cleared"]) == wanted:
            return False
        names = self.array("names", writable=True)
        names["text"] = 0
        names["hash"] = 0
        self._note_cleared(wanted)
        return True

    def _note_cleared(self, privacy: int) -> None:
        info = self.read("info")
        if int(info["cleared"]) != privacy:
            info["cleared"] = privacy
            self.write("info", info)

    def _refuse_other_names(self, catalogue: Knowledge) -> None:
        """Raises DataError where a number would change its meaning.

        Flows in the table, and the totals of those that left it, carry numbers and not names. So a
        label stays when no file defines it any more, and keeps its number for itself.
        """
        running = self.labels()
        for label in catalogue.labels.values():
            known = running.get(label.id, label)
            if known.name != label.name:
                entry = catalogue.entries[label.id]
                raise DataError(
                    entry.where("id"),
                    f"id {label.id} is {known.name} in the running probe, not {label.name}",
                    "take another number, or detach and attach anew",
                )

    def _write_labels(self, labels: Iterable[Label]) -> None:
        table = self.array("labels", writable=True)
        for label in labels:
            record = np.zeros((), table.dtype)
            set_text(record, "name", label.name)
            set_text(record, "category", label.category)
            record["kind"] = _KINDS.index(label.kind)
            table[label.id] = record

    def _publish(self, prefixes: PeerSet) -> None:
        """Puts the signatures' prefixes where the next generation's are looked for."""
        control = self.array("control", writable=True)
        index = peer_maps.PUBLISHED + (int(control["generation"][0]) + 1 & 1)
        if prefixes.filter["prefixes"]:
            fd = peer_maps.make_table(self.abi, prefixes)
            try:
                value = fd.to_bytes(4, "little")
                what = "cannot install the prefixes"
                syscall.update(self._map_fd("peers"), index, value, what)
            finally:
                os.close(fd)
            control["peers"][0] |= self.abi.enums["peers"]["PEERS_PUBLISHED"]
        self.array("peer_filters", writable=True)[index] = prefixes.filter

    def _forget_published(self, any_left: bool) -> None:
        """Gives up the prefixes of the generation before; with `any_left` new ones are in force."""
        control = self.array("control", writable=True)
        if not any_left:
            control["peers"][0] &= ~np.uint32(self.abi.enums["peers"]["PEERS_PUBLISHED"])
        old = peer_maps.PUBLISHED + (int(control["generation"][0]) + 1 & 1)
        syscall.delete(self._map_fd("peers"), old)

    def _swap(self, tables: Contents, labels: Iterable[Label], info: Array) -> None:
        """Makes these the tables that packets are matched with; tables: outer map -> elements."""
        control = self.array("control", writable=True)
        generation = int(control["generation"][0])
        new, old = (generation + 1) & 1, generation & 1
        made: dict[str, int] = {}
        try:
            for name, elements in tables.items():
                made[name] = self._filled(name, elements)
            for name in made:
                self._install(name, new, made[name])
            # No rule gives a number that has no name yet, and what may fail is behind us.
            self._write_labels(labels)
            # Which rules are in force and what `info` says of them are two writes: whoever ends
            # between them leaves none that was loaded, so that the next attach loads again.
            self._note_no_load()
            control["generation"][0] = (generation + 1) & 0xFFFFFFFF
            self.write("info", info)
            # Every update of an array of maps waits until no program runs that began before
            # it. So after this one no packet is left that chose the old elements.
            self._install(name, new, made[name])
        finally:
            for fd in made.values():
                os.close(fd)
        for name in tables:
            syscall.delete(self._map_fd(name), old)

    def _filled(self, name: str, elements: Sequence[tuple[bytes, bytes]]) -> int:
        """A new inner map of an array of maps; the caller closes it."""
        inner = self.abi.maps[name].inner
        assert inner is not None
        sizes = inner.key_size, inner.value_size
        fd = syscall.create_map(inner.type, name, *sizes, inner.max_entries, inner.flags)
        try:
            what = f"cannot store {len(elements)} {name.replace('_', ' ')}"
            if inner.type == ARRAY:
                for key, value in elements:
                    syscall.update(fd, key, value, what)
            else:
                syscall.update_many(fd, elements, what)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _install(self, name: str, generation: int, fd: int) -> None:
        what = f"cannot install the {name.replace('_', ' ')}"
        syscall.update(self._map_fd(name), generation, fd.to_bytes(4, "little"), what)

    def _note_no_load(self) -> None:
        info = self.read("info")
        info["loaded_ns"] = 0
        self.write("info", info)

    def peer_counts(self) -> tuple[int, int]:
        """How many peers are pushed (some may have expired), and how many prefixes published."""
        filters = self.array("peer_filters")
        pushed, published = (
            0
            if index is None
            else int(filters[index]["addresses"]) + int(filters[index]["prefixes"])
            for index in self.peer_places()
        )
        return pushed, published

    def peer_places(self) -> tuple[int | None, int | None]:
        """Where pushed peers and published prefixes are, of `peers` and its filters; None: none."""
        bits, control = self.abi.enums["peers"], self.array("control")
        sources, generation = int(control["peers"][0]), int(control["generation"][0])
        return (
            peer_maps.PUSHED + (sources & bits["PEERS_GENERATION"])
            if sources & bits["PEERS_PUSHED"]
            else None,
            peer_maps.PUBLISHED + (generation & 1) if sources & bits["PEERS_PUBLISHED"] else None,
        )

    def per_cpu(self, name: str, index: int) -> Array:
        """One element of a per-CPU array: a record a CPU. Value sizes are multiples of 8."""
        dtype = self.abi.element_dtype(name)
        size = dtype.itemsize * possible_cpus()
        return np.frombuffer(syscall.lookup(self._map_fd(name), index, size) or bytes(size), dtype)

    def counters(self) -> dict[str, tuple[int, int]]:
        """Name of enum counter -> (packets, bytes), CPUs summed."""
        dtype, entries = self.abi.element_dtype("counters"), self.abi.maps["counters"].max_entries
        cpus = possible_cpus()
        data = syscall.lookup_all(self._map_fd("counters"), entries, dtype.itemsize * cpus)
        values = np.frombuffer(data, dtype).reshape(entries, cpus)
        packets = values["packets"].sum(axis=1).tolist()
        octets = values["bytes"].sum(axis=1).tolist()
        return {
            name: (packets[index], octets[index])
            for name, index in self.abi.enums["counter"].items()
            if index < entries
        }

    def retired(self, mapped: Array) -> Array:
        """The mapped array `retired` with its stripes summed: one record a label."""
        stripes = len(mapped) // self.abi.maps["retired"].max_entries
        words = mapped.view(np.uint64).reshape(stripes, -1)
        total: Array = words.sum(axis=0, dtype=np.uint64).view(mapped.dtype)
        return total

    def labels(self) -> dict[int, Label]:
        """The labels that the table holds, by id."""
        table = self.array("labels")
        kinds = table["kind"]
        return {
            int(i): Label(
                int(i), text(table["name"][i]), text(table["category"][i]), _KINDS[kinds[i]]
            )
            for i in np.flatnonzero((kinds > 0) & (kinds < len(_KINDS)))
        }
