# SPDX-License-Identifier: Apache-2.0
"""Makes docs/performance.md, and a part of README.md, of docs/performance.json (`make bench`).

    .venv/bin/python tools/performance.py [DATA]

tests/repo/test_performance.py fails when the document is not what this makes of the data. So
nothing stands in it that the data do not say; what is only known of the way of measuring does.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import performance_knowledge
from performance_readme import readme
from performance_text import (
    DATA,
    EMPTY,
    GONE,
    NONE,
    README,
    Data,
    goals,
    megabytes,
    nanoseconds,
    prose,
    rate,
    row_key,
    size,
    table,
)

INTRODUCTION = """\
# Performance

Written by `sudo make bench` from [performance.json](performance.json), which it measures in ten
minutes. Figures are medians; what stands in brackets are the least and the largest of all rounds.
On another machine, and on this one at a busy hour, they are others.
"""

PACKET = """\
The program, and an empty one behind the same wrapper, run on the same packets by BPF_PROG_TEST_RUN
in rounds by turns: the figure is the difference in the median round, the factor is what the whole
run takes over the empty one. After each measurement the tables must show that the packets did what
the row says. Frames lie in the CPU's cache, and no driver is in it. `xdpprobe bench --help` says
more of the rows; `xdpprobe bench` measures them on any machine.
"""

GOAL = """\
A table of {capacity:,} entries with {flows:,} flows that all are to stay: three quarters full. By
chance: each packet is of any of the flows. In turn: each is of the flow that has been silent for
longest, and that is the worst order for a table of sets; where two flows find no more than one
entry, each packet of either pushes the other out, so that both stay unestablished. Established
flows that were pushed out in the measured packets: {evicted}.
"""

BARE = """\
What of it is waiting for memory: a program that does no more than to find one of as many bare
cache lines by the packet's address and port, and to count there, takes {bare} ns, flows in turn.
The probe finds {home} of the flows at home, with one such line; {first_set} elsewhere in that set,
which lies in the lines beside; and {second_set} in another set, with one more wait.
"""

FLOWS = """\
So many flows, each named by its ClientHello, in a table that has room for them; their packets come
in turn, so that none finds its entry in a CPU cache that is smaller than the table. New: SYNs of
further flows. Memory: all maps of the probe, in the kernel. Snapshot and totals: what every reader
computes; `top`: one reading with its screen; these are CPU times. `flows`, `dump --json`: the
whole command.
"""

RULES = """\
So many made-up domains as name rules, and hellos of new flows that ask for up to 64 of them. Read:
signature files, with the shipped ones; compile: the table's entries in user space; load: that
again, into a new table in the kernel, and the change to it; until then, packets use the old one.
Attach: all of `attach`, with the shipped rules besides.
"""

FRAMES = """\
Frames of {frame} bytes, of {flows:,} flows from each CPU, sent by BPF_PROG_TEST_RUN with live
frames into a veth; on the other end they pass the probe, become a packet of the network stack, and
are thrown away there. One CPU does all of that for a frame. Each frame must arrive and be counted.
A frame's ns are those of one CPU.
"""

TCP = """\
One TCP stream (iperf3, {seconds:g} s a round) through a veth. XDP, also of an empty program,
switches the segmentation offload of a veth off, which is why `--hook auto` takes tc there. tcpdump
reads all packets and writes them nowhere; what it is too slow for it does not see.
"""

READERS = """\
`top` once a second in a terminal of 100 x 30, with {flows:,} flows in the table: nothing comes,
and {rate:,} packets a second of flows by chance come from another CPU. Memory that is resident
counts the mapped tables.
"""

SCHEMA = f"""\
## The data

performance.json, schema 1: `version` of xdpprobe, `date`, `quick` (true: figures of no worth),
`machine` (`load`: its load average over a minute at the start, of several runs the largest, and at
the end), `seconds` that each part took, and a part for each section above:

- `rows`: `xdp` and `tc`, each with `rules`, `hz`, `left_out` and `rows` as in `xdpprobe bench
  --json`, with the `capacity` of the table that a row was measured in.
- `goal`: `orders` (`used`: entries; `home`, `first_set`, `second_set`: shares of them;
  `established`: ns as in `rows`; `evictions`: share of the packets that pushed a flow out;
  `evicted_established`: flows), `bare` (ns of the bare lines), and `checks` (`what`, `value`,
  `limit`, `met`).
- `flows`, `rules`: one object a size; ns as in `rows`, `memory` in bytes, times with their unit in
  the name, `commands` in seconds.
{performance_knowledge.SCHEMA}\
- `frames`, `tcp`: `rows` with a rate's `median`, `min` and `max`, `cpus` that sent;
  `reader_missed`: share of the packets.
- `readers`: `percent` of one CPU, `rss` and `pss` in 10^6 bytes.
"""


# --- sections


def machine(data: Data) -> Iterator[str]:
    """On what it was measured."""
    found = data["machine"]
    kind = "virtual machine" if found["virtual"] else "machine"
    yield prose(
        f"xdpprobe {data['version']}, {data['date']}, on a {kind}: {found['cpu']}, "
        f"{found['cpus']} CPUs, {found['memory'] / 1e9:.0f} GB; Linux {found['kernel']}, "
        f"{found['machine']}; clang {found['clang']}, iperf3 {found['iperf3']}, "
        f"tcpdump {found['tcpdump']}." + _load(found)
    )
    if data["quick"]:
        yield "\n**Of a quick run: figures of no worth.**\n"


def _load(found: Data) -> str:
    """How busy the machine was; data of before that was noted do not say."""
    if "load" not in found:
        return ""
    load = found["load"]
    return f" Load average: {load['start']:.1f} at the start, {load['end']:.1f} at the end."


def packets(found: Data) -> Iterator[str]:
    """The rows of `xdpprobe bench`, both hooks side by side."""
    rules = found["xdp"]["rules"]
    yield f"\n## A packet\n\n{PACKET}\nns, {rules:,} name rules in force:\n\n"
    both = [{row_key(row): row for row in found[hook]["rows"]} for hook in ("xdp", "tc")]
    head = ("a packet that is", "flows", "entries", "XDP", "factor", "tc", "factor")
    rows: list[tuple[str, ...]] = []
    for key, row in both[0].items():
        other = both[1].get(key)
        rows.append(
            (
                _name(row, rows[-1][0] if rows else ""),
                _flows(row["flows"]),
                size(row["capacity"]),
                nanoseconds(row),
                f"{row['ratio']:.1f}",
                nanoseconds(other),
                f"{other['ratio']:.1f}" if other else GONE,
            )
        )
    yield table(head, rows)


def _name(row: Data, above: str) -> str:
    return row["name"] if row["per"] == "packet" else f"{above}: the whole connection"


def _flows(count: int | None) -> str:
    if count is None:
        return "none"
    return size(count) if count else "new"


def goal(found: Data) -> Iterator[str]:
    """Whether the goal is met."""
    evicted = sum(order["evicted_established"] for order in found["orders"].values())
    words = prose(GOAL, capacity=found["capacity"], flows=found["flows"], evicted=evicted)
    yield f"\n## A million entries, three quarters full\n\n{words}\n{goals(found['checks'])}"
    places = found["orders"]["in turn"]
    shares = {name: f"{100 * places[name]:.0f} %" for name in ("home", "first_set", "second_set")}
    yield "\n" + prose(BARE, bare=nanoseconds(found["bare"]), **shares)


def flows(found: Sequence[Data]) -> Iterator[str]:
    """Growth with the flows in the table."""
    yield f"\n## More flows\n\n{FLOWS}\n![ns a packet by flows](performance-flows.svg)\n\n"
    yield table(
        ("flows", "entries", "established, ns", "new, ns", "memory, MB"),
        [
            (
                size(row["flows"]),
                size(row["capacity"]),
                nanoseconds(row["established"]),
                nanoseconds(row["new"]),
                megabytes(row["memory"]),
            )
            for row in found
        ],
    )
    commands = list(found[0]["commands"])
    yield "\n"
    yield table(
        ("flows", "snapshot, ms", "totals, ms", "`top`, ms", *(f"`{c}`, s" for c in commands)),
        [
            (
                size(row["flows"]),
                *(f"{row[name]:.1f}" for name in ("snapshot_ms", "totals_ms", "top_ms")),
                *(f"{row['commands'][name]:.2f}" for name in commands),
            )
            for row in found
        ],
    )


def rules(found: Sequence[Data]) -> Iterator[str]:
    """Growth with the name rules."""
    yield f"\n## More name rules\n\n{RULES}\n"
    yield "![ns of a hello by name rules](performance-rules.svg)\n\n"
    yield table(
        ("rules", "a hello, ns", "read, s", "compile, s", "load, s", "attach, s", "memory, MB"),
        [
            (
                size(row["rules"]),
                nanoseconds(row["hello"]),
                *(f"{row[name]:.3f}" for name in ("read_s", "compile_s", "load_s", "attach_s")),
                f"{row['memory'] / 1e6:.3f}",
            )
            for row in found
        ],
    )


def frames(found: Data) -> Iterator[str]:
    """Packets a second."""
    words = prose(FRAMES, frame=found["frame_bytes"], flows=found["flows"])
    yield f"\n## Packets a second\n\n{words}\n![frames a second](performance-frames.svg)\n\n"
    rows = {(row["variant"], row["cpus"]): row["frames_a_second"] for row in found["rows"]}
    cpus = sorted({count for _, count in rows})
    head = ["on the receiver's interface", *(f"10^6 a second, {_cpus(count)}" for count in cpus)]
    head += [f"ns, over {NONE}", f"ns, over {EMPTY}"]
    if len(cpus) > 1:
        head.append("CPUs scale by")
    lines = []
    for name in dict.fromkeys(name for name, _ in rows):
        line = [name, *(rate(rows[name, count], 1e6) for count in cpus)]
        line += [_more(rows, name, other) for other in (NONE, EMPTY)]
        if len(cpus) > 1:
            line.append(f"{rows[name, cpus[-1]]['median'] / rows[name, 1]['median']:.2f}")
        lines.append(line)
    yield table(head, lines)
    missed = ", ".join(f"{100 * share:.1f} %" for share in found["reader_missed"])
    yield f"\ntcpdump missed {missed} of the frames; the probes pushed out or had no room for "
    yield f"{found['evictions']} flows.\n"


def _cpus(count: int) -> str:
    return f"{count} CPU{'s' if count > 1 else ''}"


def _more(rows: Mapping[tuple[str, int], Data], name: str, other: str) -> str:
    """ns of a frame more than with another variant, on one CPU."""
    if name == other:
        return GONE
    ns = [1e9 / rows[which, 1]["median"] for which in (name, other)]
    return f"{ns[0] - ns[1]:+.0f}"


def tcp(found: Data) -> Iterator[str]:
    """TCP throughput."""
    words = prose(TCP, seconds=found["seconds"])
    yield f"\n## TCP throughput\n\n{words}\n![TCP throughput](performance-tcp.svg)\n\n"
    best = next(row["bits_a_second"] for row in found["rows"] if row["variant"] == NONE)
    yield table(
        ("on the receiver's interface", "Gb/s", f"of {NONE}", "tcpdump missed"),
        [
            (
                row["variant"],
                rate(row["bits_a_second"], 1e9),
                f"{100 * row['bits_a_second']['median'] / best['median']:.0f} %",
                GONE if row["reader_missed"] is None else f"{100 * row['reader_missed']:.1f} %",
            )
            for row in found["rows"]
        ],
    )


def readers(found: Data) -> Iterator[str]:
    """The live view's cost."""
    words = prose(READERS, flows=found["flows"], rate=found["rate"])
    yield f"\n## `top`\n\n{words}\n"
    yield table(
        ("", "of one CPU", "resident, MB", "its share of it, MB"),
        [
            (
                name,
                f"{found[key]['percent']:.1f} %",
                f"{found[key]['rss']:.0f}",
                f"{found[key]['pss']:.0f}",
            )
            for name, key in (("nothing comes", "top_idle"), ("with traffic", "top_live"))
        ],
    )


SECTIONS: dict[str, Callable[[Any], Iterator[str]]] = {
    "rows": packets,
    "goal": goal,
    "flows": flows,
    "rules": rules,
    "signatures": performance_knowledge.signatures,
    "peers": performance_knowledge.peers,
    "frames": frames,
    "tcp": tcp,
    "readers": readers,
}


def document(data: Data) -> str:
    """The whole document; parts that were not measured are left out."""
    parts = [INTRODUCTION, "\n", *machine(data)]
    for name, section in SECTIONS.items():
        if name in data:
            parts += section(data[name])
    return "".join(parts) + "\n" + SCHEMA


def write(data: Data, source: Path) -> None:
    """Writes the document beside the data, and the README's part if they are the repository's."""
    source.with_suffix(".md").write_text(document(data))
    if source == DATA:
        README.write_text(readme(README.read_text(), data))


def main() -> None:
    """Makes all of it anew but the plots, which performance_plots.py draws."""
    source = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else DATA
    write(json.loads(source.read_text()), source)


if __name__ == "__main__":
    main()
