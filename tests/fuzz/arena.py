# SPDX-License-Identifier: Apache-2.0
"""A data plane under fire: sends a batch, and says which invariant it broke."""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from tests.bpf.instances import empty
from tests.bpf.plane import zero
from tests.flow_sets import expected_away
from tests.fuzz.batch import Answer, Array, Batch, Runner, batch_of
from tests.fuzz.mutate import TAME
from tests.fuzz.seeds import MARK
from tests.fuzz.trim import Trimmers
from tests.packets import Conversation
from xdpprobe import catalogue
from xdpprobe.loader import load_object
from xdpprobe.settings import PRIVACY

RETIRED = "retired"
ENTRIES = {"xdp": "xdp_entry", "tc": "tc_ingress"}
PASSED = {"xdp": 2, "tc": 0xFFFFFFFF}
SHORTEST = {"xdp": 14, "tc": 34}

Settings = Mapping[str, int]  # constants of bpf/config.h, and `flows`


class Seen(NamedTuple):
    """What the data plane says of a flow. protocol: as enum protocol calls it; by_pattern: a
    signature decided it."""

    name: str | None
    protocol: str
    by_pattern: bool = False


@cache
def _known() -> catalogue.Catalogue:
    """The shipped signatures, read once."""
    return catalogue.load()


class Arena:
    """One hook of an instance of its own, never attached; a context manager."""

    def __init__(self, hook: str, settings: Settings) -> None:
        self.hook, self.settings = hook, dict(settings)
        self.reached: set[str] = set()  # counters that some batch has moved
        constants = {name: value for name, value in settings.items() if name != "flows"}
        self._small = settings.get("flows", 16384) < 4096
        known = _known()
        self._loaded = load_object(
            constants,
            flows=settings.get("flows", 16384),
            names=16384,
            programs=[ENTRIES[hook]],
            l4=known.l4,
        )
        try:
            self._loaded.tables().load(known)
            self._begin(known)
        except BaseException:
            self._loaded.close()
            raise

    def _begin(self, known: catalogue.Catalogue) -> None:
        loaded = self._loaded
        program = loaded.prog_fd(ENTRIES[self.hook])
        self._trimmers = Trimmers(program) if self.hook == "xdp" else None
        programs = self._trimmers.programs if self._trimmers else {0: program}
        self._runner = Runner(self.hook, programs)
        self._tables = loaded.tables()
        self.hot = loaded.array("flow_hot", writable=True)
        self._cold = loaded.array("flow_cold", writable=True)
        self._names = loaded.array("names", writable=True)
        self._hellos = loaded.array("hellos", writable=True)
        self._retired = loaded.array("retired")
        enums = loaded.abi.enums
        self._protocols = enums["protocol"]
        self._pattern = enums["method"]["METHOD_PATTERN"]
        self._methods = max(enums["method"].values())
        self._tunnels = max(enums["tunnel"].values())
        labels = np.zeros(8192, bool)
        labels[[0, *known.labels]] = True
        self._labels = labels
        self._owner = int(self.settings.get("slot", 0)) * 2 + 1
        self.linear = self.hook == "xdp" and self._takes_pieces()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._trimmers:
            self._trimmers.close()
        self._loaded.close()

    def _takes_pieces(self) -> bool:
        """Does this kernel's test run take packets that are not all linear (Linux 6.18)?"""
        batch = batch_of([Conversation().udp(bytes(400))])
        batch.linear[:] = 100
        return bool((self._runner.run(batch).code == 0).all())

    def clear(self) -> None:
        """Forgets all flows and names, and which connections they were."""
        empty(self._loaded.map_fd("moved"), self._loaded.abi.maps["moved"].key_size)
        for table in (self.hot, self._cold, self._names, self._hellos):
            table.view(np.uint8)[:] = 0

    def pass_on(self, batch: Batch) -> list[str]:
        """Sends a batch; what is wrong with the packets themselves."""
        return self._packets(batch, self._runner.run(batch))

    def forget_hellos(self) -> None:
        """Empties the slots of unfinished hellos."""
        zero(self._loaded.map_fd("hello_slots"))

    def forget_fragments(self) -> None:
        """Empties the memory of first fragments."""
        empty(self._loaded.map_fd("fragments"), self._loaded.abi.maps["fragments"].key_size)

    def account(self, batch: Batch) -> tuple[Counter[tuple[object, str]], list[str]]:
        """Sends a batch to an empty table: who sent what, or for which reason it is in no flow;
        and what is wrong with the packets themselves."""
        self.clear()
        before = self._totals()
        problems = self.pass_on(batch)
        account: Counter[tuple[object, str]] = Counter()
        for name, total in self._totals().items():
            if name.startswith("REASON_") or name == RETIRED:
                account[name, "packets"] += int(total[0] - before[name][0])
                account[name, "bytes"] += int(total[1] - before[name][1])
        for index in np.flatnonzero(self.hot["tag"]).tolist():
            hot, cold = self.hot[index], self._cold[index]
            key = self._key(cold)
            for side, end in enumerate(self._ends(cold)):
                for what in ("packets", "bytes"):
                    account[(key, end), what] += int(hot[what][side])
        return account, problems

    def names(self) -> dict[object, Seen]:
        """Flow (as FlowPacket.key) -> what the data plane says of it."""
        words = {v: k.removeprefix("PROTOCOL_") for k, v in self._protocols.items()}
        kept = self._names[self._names["hash"] != 0]
        texts = {
            int(entry["hash"]): entry["text"].tobytes()[: int(entry["length"])].decode("latin-1")
            for entry in kept
        }
        found: dict[object, Seen] = {}
        for index in np.flatnonzero(self.hot["tag"]).tolist():
            hot, cold = self.hot[index], self._cold[index]
            found[self._key(cold)] = Seen(
                texts.get(int(cold["name"])),
                words.get(int(hot["protocol"]), "OTHER"),
                int(hot["protocol_method"]) == self._pattern,
            )
        return found

    @staticmethod
    def _ends(cold: Array) -> list[tuple[bytes, int]]:
        addresses, ports = cold["address"].tobytes(), cold["port"].tobytes()
        return [
            (addresses[16 * i : 16 * i + 16], int.from_bytes(ports[2 * i : 2 * i + 2], "big"))
            for i in (0, 1)
        ]

    def _key(self, cold: Array) -> object:
        low, high = sorted(self._ends(cold))
        return int(cold["vlan"]), int(cold["l4"]), low, high

    def check(self, batch: Batch) -> list[str]:
        """Sends a batch to an empty table; what is wrong, in a line each."""
        self.clear()
        before = self._totals()
        answer = self._runner.run(batch)
        after = self._totals()
        gains = {name: after[name] - before[name] for name in after}
        self.reached |= {name for name, gain in gains.items() if gain[0]}
        return [
            *self._packets(batch, answer),
            *self._sums(batch, gains),
            *self.entries(batch),
            *self._kept_names(evicted=bool(gains["LOSS_NAME_EVICTED"][0])),
            *self._kept_hellos(evicted=bool(gains["LOSS_FACTS_EVICTED"][0])),
            *self._canaries(),
        ]

    def _totals(self) -> dict[str, Array]:
        """(packets, bytes) since the load, of every counter, the interface, and what retired."""
        found = {name: np.array(pair) for name, pair in self._tables.counters().items()}
        port = self._tables.per_cpu("ports", self.settings.get("slot", 0))
        found["port"] = np.array([int(port[field].sum()) for field in ("packets", "bytes")])
        retired = [int(self._retired[field].sum()) for field in ("packets", "bytes")]
        found[RETIRED] = np.array(retired)
        return found

    def _packets(self, batch: Batch, answer: Answer) -> list[str]:
        """Every packet was taken, passed on, and left as it came."""
        width = batch.data.shape[1]
        sent = batch.length - batch.trim
        behind = np.arange(width) >= sent[:, None]
        same = ((answer.data == batch.data) | behind).all(axis=1)
        wrong = {
            "refused (errno)": (answer.code != 0, -answer.code),
            "verdict": (answer.verdict != PASSED[self.hook], answer.verdict),
            "length as it left": (answer.length != sent, answer.length),
            "changed on its way": (~same, sent),
        }
        return [
            f"packet {np.flatnonzero(bad)[0]} of {bad.sum()}: {what} {value[bad][0]}"
            for what, (bad, value) in wrong.items()
            if bad.any()
        ]

    def _sums(self, batch: Batch, gains: Mapping[str, Array]) -> list[str]:
        """Each packet and byte is counted once, and no counter ran away."""
        sent = np.array([len(batch), batch.octets])
        flows = np.array([int(self.hot[field].sum()) for field in ("packets", "bytes")])
        elsewhere = sum(
            gain
            for name, gain in gains.items()
            if name.startswith("REASON_") or name == "INFO_DUPLICATE"
        )
        problems = []
        if (gains["port"] != sent).any():
            problems.append(f"interface counted {gains['port']}, sent were {sent}")
        counted = flows + gains[RETIRED] + elsewhere
        if (counted != sent).any():
            problems.append(f"flows, retired and reasons count {counted}, sent were {sent}")
        for name, (packets, _) in gains.items():
            # A packet can be lost for a few reasons at most, one after the other.
            if not 0 <= packets <= 4 * len(batch):
                problems.append(f"{name} gained {packets} in {len(batch)} packets")
        return problems

    def entries(self, batch: Batch) -> list[str]:
        """Every entry says something that can be."""
        live = self.hot["tag"] != 0
        hot, cold = self.hot[live], self._cold[live]
        total = hot["packets"].sum(axis=1)
        octets = hot["bytes"].sum(axis=1)
        reversed_ends = self._reversed(cold)
        holds = {
            "tag of the cold entry": hot["tag"] == cold["tag"],
            "packets": (total > 0) & (total <= len(batch)),
            "bytes": (octets >= 14 * total) & (octets <= batch.octets),
            "protocol": self._labels[hot["protocol"] & 8191] & (hot["protocol"] < 512),
            "application": self._labels[hot["app"] & 8191] & (hot["app"] < 8192),
            "methods": (hot["protocol_method"] <= self._methods)
            & (hot["app_method"] <= self._methods),
            "confidence": (hot["protocol_confidence"] <= 100) & (hot["app_confidence"] <= 100),
            "state": hot["state"] <= 2,
            "spent": (hot["spent"] <= self.settings.get("inspect_budget", 8)).all(axis=1),
            "owner": np.isin(hot["owner"], [0, self._owner]).all(axis=1),
            "order of the ends": ~reversed_ends,
            "VLAN": cold["vlan"] < 4096,
            "interface": cold["slot"] == self.settings.get("slot", 0),
            "named after": cold["named_after"] <= total,
            "tunnel": cold["tunnel"] <= (self._tunnels if self.settings.get("tunnels") else 0),
            "reserved": (cold["reserved"] == 0).all(axis=1)
            & (cold["reserved_tls"] == 0).all(axis=1),
        }
        problems = [
            f"{(~good).sum()} of {live.sum()} flows: {what}: {hot[~good][0]}, {cold[~good][0]}"
            for what, good in holds.items()
            if not good.all()
        ]
        if len(np.unique(hot["tag"])) != len(hot):
            problems.append("a flow has two entries")
        return [*problems, *self._homes()]

    @staticmethod
    def _reversed(cold: Array) -> Array:
        """Where endpoint 0 compares higher, by the words that packet_reversed() compares."""
        words = np.ascontiguousarray(cold["address"]).view("<u8").reshape(-1, 2, 2)
        ports = np.ascontiguousarray(cold["port"]).view("<u2").reshape(-1, 2)
        higher = ports[:, 0] > ports[:, 1]
        for word in (0, 1):
            first, second = words[:, 0, word], words[:, 1, word]
            higher = np.where(first != second, first > second, higher)
        return higher

    def _homes(self) -> list[str]:
        """A home's `away` counts the flows that live elsewhere."""
        wanted = expected_away(self.hot["tag"], self._loaded.abi)
        bad = np.flatnonzero(self.hot["away"] != wanted)
        return [
            f"away of entry {entry}: {self.hot['away'][entry]}, not {wanted[entry]}"
            for entry in bad[:1]
        ]

    def _kept_names(self, evicted: bool) -> list[str]:
        """Every name kept can be one, and every flow's name is kept."""
        kept = self._names[self._names["hash"] != 0]
        length = kept["length"].astype(np.int64)
        inside = np.arange(256) < length[:, None]
        text = kept["text"]
        printable = (text > 0x20) & (text < 0x7F) & ~((text >= 65) & (text <= 90))
        bad = (length == 0) | (np.where(inside, ~printable, text != 0)).any(axis=1)
        problems = [f"name {kept[bad][0]}"] if bad.any() else []
        flows = self._cold["name"][self.hot["tag"] != 0]
        if not evicted and not np.isin(flows[flows != 0], kept["hash"]).all():
            problems.append("a flow has a name that the table has not")
        return problems

    def _kept_hellos(self, evicted: bool) -> list[str]:
        """Every hello kept has lists that fit, and every flow's hello is kept."""
        kept = self._hellos[self._hellos["hash"] != 0]
        bad = (kept["ciphers"] == 0) | (kept["reserved"] != 0) | (kept["named"] > 1)
        for count, words in (
            ("ciphers", "cipher"),
            ("signatures", "signature"),
            ("extensions", "extension"),
        ):
            bad |= kept[count] > 4 * kept[words].shape[1]
        problems = [f"hello {kept[bad][0]}"] if bad.any() else []
        flows = self._cold["hello"][self.hot["tag"] != 0]
        if not evicted and not np.isin(flows[flows != 0], kept["hash"]).all():
            problems.append("a flow has a hello that the table has not")
        return problems

    def _canaries(self) -> list[str]:
        """The canary's name is where it was sent, and nowhere else."""
        live = self.hot["tag"] != 0
        cold = self._cold[live]
        first = cold["address"][:, :, 12].astype(np.int64) << 8 | cold["address"][:, :, 13]
        tame = (first == TAME).any(axis=1)
        theirs = cold["name"][tame]
        if self.private == "hash":  # nobody but tame flows tells what it looks like
            canaries = theirs[theirs != 0]
        else:
            kept = self._names[self._names["hash"] != 0]
            marks = np.char.find(kept["text"].reshape(-1).view("S256"), MARK.encode())
            canaries = kept["hash"][marks >= 0]
        seen = ~tame & np.isin(cold["name"], canaries)
        problems = []
        if seen.any():
            problems.append(f"{seen.sum()} flows have the canary's name: {cold[seen][0]}")
        named = int((theirs != 0).sum())
        # Where tunnels are not looked into, the flows of tunnels have no name: a third of all.
        share = 2 if self.settings.get("tunnels") else 4
        if tame.sum() > 20 and named < tame.sum() / share and not self._small:
            problems.append(f"of {tame.sum()} tame flows {named} were named")
        return problems

    @property
    def private(self) -> str:
        """The instance's privacy setting."""
        return PRIVACY[self.settings.get("privacy", 0)]
