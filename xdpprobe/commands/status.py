# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe status`: what is attached, how full the tables are, what was lost."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from xdpprobe import streams
from xdpprobe.advice import command

_DESCRIPTION = """\
Shows the attached interfaces, table use, kernel memory, and every counter that is not zero: what
belongs to no flow (reason), what could not be done (loss; "budget" are flows that stayed unknown
after a look at their first packets), and what is good to know (info).
Exit code 1 when nothing is attached.

JSON: schema 1; times are Unix times in seconds, sizes bytes, [ingress, egress] in lists.
signatures_loaded: 0 where the last load was broken off. peers.pushed: expired ones that nobody
has removed yet may be among them.
flows.over: those silent for too long, closed or not, whose entries the next new flows may take."""


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "status",
        help="what is attached, table use, losses",
        description=_DESCRIPTION,
        epilog="example:\n  xdpprobe status --json | jq .flows",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, schema 1")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the status."""
    from xdpprobe.status import report

    found = report(args.bpffs)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)
    return 0 if found["attached"] else 1


def _print(found: dict[str, Any]) -> None:
    for version in found["other_versions"]:
        print(
            f"a probe of another xdpprobe version is attached ({version}); "
            f"`{command('detach', '--all', bpffs=Path(found['bpffs']))}` removes it"
        )
    if not found["attached"]:
        print(f"nothing is attached (under {found['bpffs']})")
        return
    from xdpprobe.views.report import console as make_console

    console = make_console()
    console.print(_interfaces(found["interfaces"]))
    for name, text in _facts(found):
        console.print(f"{name:<12} {text}", soft_wrap=True)
    for kind in ("reason", "loss", "info"):
        _counters(console, found["counters"], kind)


def _interfaces(interfaces: list[dict[str, Any]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("INTERFACE", "HOOKS", "STATE", "SINCE"):
        table.add_column(column, overflow="fold")
    for column in ("PACKETS IN", "OUT"):
        table.add_column(column, justify="right")
    for entry in interfaces:
        name = entry["interface"] + (f"@{entry['netns']}" if entry["netns"] else "")
        name = streams.printable(name)
        state = entry["state"]
        if entry["name_now"] not in (None, entry["interface"]):
            state += f", now {streams.printable(entry['name_now'])}"
        table.add_row(
            name,
            entry["attached"],
            Text(state, style="" if state == "up" else "bold yellow"),
            _ago(entry["since"]),
            *(str(number) for number in entry["packets"]),
        )
    return table


def _ago(moment: float) -> str:
    seconds = max(int(time.time() - moment), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    from xdpprobe.memory import megabytes

    flows, names = found["flows"], found["names"]
    settings, loaded = found["settings"], found["signatures_loaded"]
    peers = found["peers"]
    live = flows["used"] - flows["over"]
    share = 100 * live / flows["capacity"]
    return [
        (
            "flows",
            f"{live} of {flows['capacity']} ({share:.1f} %): {flows['established']} established, "
            f"{flows['new']} new, {live - flows['established'] - flows['new']} closed lately; "
            f"{flows['over']} are over (closed or expired) and give way",
        ),
        ("names", f"{names['used']} of {names['capacity']}"),
        (
            "signatures",
            f"{found['rules']} name rules, digest {found['signatures'][:12]}, "
            + (f"loaded {_ago(loaded)}" if loaded else "the last load was broken off: repeat it"),
        ),
        ("peers", f"{peers['pushed']} pushed, {peers['published']} prefixes of signatures"),
        ("memory", f"{megabytes(found['memory'])} in the kernel"),
        (
            "idle after",
            f"{settings['idle_new']:g} s new, {settings['idle_established']:g} s established, "
            f"{settings['idle_closed']:g} s closed",
        ),
        ("privacy", f"names {'kept' if settings['privacy'] == 'none' else settings['privacy']}"),
        ("tunnels", {"outer": "are flows", "inner": "are looked into"}[settings["tunnels"]]),
        ("readers", str(found["readers"])),
        ("version", f"xdpprobe {found['version']}, layout {found['abi']}"),
    ]


def _counters(console: Any, counters: dict[str, dict[str, int]], kind: str) -> None:
    shown = {
        name.removeprefix(f"{kind}_"): value["packets"]
        for name, value in counters.items()
        if name.startswith(f"{kind}_") and value["packets"]
    }
    text = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in shown.items())
    style = "bold red" if kind == "loss" and shown else ""
    console.print(f"{kind:<12} {text or 'none'}", style=style, soft_wrap=True)
