# SPDX-License-Identifier: Apache-2.0
"""The README's part of docs/performance.json: some rows, so that README and data agree."""

from collections.abc import Iterator

from performance_text import GONE, NONE, Data, megabytes, prose, row_key, size, table

_BEGIN, _END = "<!-- by tools/performance.py -->", "<!-- end -->"

SUMMARY = (
    ("established flow", 1),
    ("established flow", 1000),
    ("established flow", 100_000),
    ("established flow", 1_000_000),
    ("established flow, IPv6", 1000),
    ("new flow (SYN)", 0),
    ("new flow (SYN), full table", 0),
    ("TLS hello, 517 B", 0),
    ("TLS hello, 1.8 kB", 0),
    ("TLS hello in 2 segments", 0),
    ("HTTP request", 0),
    ("DNS query", 0),
    ("QUIC Initial, version 1", 0),
    ("QUIC Initial, version 2", 0),
    ("QUIC hello in 2 datagrams", 0),
    ("QUIC 1-RTT packet of a named flow", 1000),
    ("unmatched UDP payload", 0),
)


def summary(data: Data) -> str:
    """What the README shows of the data."""
    found = data["machine"]
    parts = [
        prose(
            f"{found['cpus']}-core {found['cpu']}{' virtual machine' if found['virtual'] else ''}, "
            f"Linux {found['kernel']}, clang {found['clang']}, {data['date']}; medians. In the "
            "table of packets: ns net of an empty program in the same rounds, by BPF_PROG_TEST_RUN."
        )
    ]
    if "rows" in data:
        both = [{row_key(row): row for row in data["rows"][hook]["rows"]} for hook in ("xdp", "tc")]
        lines = []
        for name, flows in SUMMARY:
            ns = [rows.get((name, flows, "packet"), {}).get("net_ns") for rows in both]
            shown = (GONE if n is None else f"{n:,}" for n in ns)
            lines.append((_title(name, flows), *shown))
        parts += ["\n", table(("a packet that is", "XDP, ns", "tc, ns"), lines)]
    if lines := list(_end_to_end(data)):
        parts += ["\n", table(("end to end", "figure"), lines)]
    return "".join(parts)


def _title(name: str, flows: int) -> str:
    return f"{name}, {size(flows)} flow{'s' if flows > 1 else ''}" if flows else name


def _end_to_end(data: Data) -> Iterator[tuple[str, str]]:
    if "frames" in data:
        rows = {
            (row["variant"], row["cpus"]): row["frames_a_second"]["median"] / 1e6
            for row in data["frames"]["rows"]
        }
        shown = [f"{name}: {rows[name, 1]:.2f}" for name in (NONE, "probe, XDP", "probe, tc")]
        yield "10^6 frames of 64 bytes a second through a veth, one CPU", "; ".join(shown)
    if "tcp" in data:
        streams = {row["variant"]: row["bits_a_second"]["median"] for row in data["tcp"]["rows"]}
        shown = [f"{name}: {streams[name] / 1e9:.1f}" for name in (NONE, "probe, tc", "tcpdump")]
        yield "Gb/s of one TCP stream through a veth", "; ".join(shown)
    if "flows" in data:
        memory = [
            f"{size(row['capacity'])} entries: {megabytes(row['memory'])} MB"
            for row in {row["capacity"]: row for row in data["flows"]}.values()
        ]
        yield "kernel memory, all maps", "; ".join(memory)
    if "readers" in data:
        found = data["readers"]
        shown = [f"{found[key]['percent']:.1f} %" for key in ("top_idle", "top_live")]
        yield "`top` on a full table, of one CPU: quiet, with traffic", ", ".join(shown)


def readme(text: str, data: Data) -> str:
    """The README with its summary made anew. Raises ValueError where its marks are missing."""
    begin, end = text.index(_BEGIN) + len(_BEGIN), text.index(_END)
    return f"{text[:begin]}\n{summary(data)}{text[end:]}"
