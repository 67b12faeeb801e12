# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe attach`: puts the probe on interfaces, or updates it there, and exits."""

import argparse
import signal
from pathlib import Path
from typing import Any

from xdpprobe import hooks, memory, streams
from xdpprobe.advice import command
from xdpprobe.netdev import typed
from xdpprobe.settings import PRIVACY, TUNNELS, Settings

_DESCRIPTION = """\
Attaches to interfaces and exits: counting and naming go on in the kernel without any process.
Interfaces attached one after the other share one flow table. Attaching an interface again
replaces the code without missing a packet; counters stay, and so do the signatures in force unless
--signatures is given or the probe was attached by another version of xdpprobe. A stricter --privacy
than before erases the server names known so far: their flows keep the application alone."""
_EPILOG = """\
examples:
  xdpprobe attach eth0                        native XDP + tc egress, or tc where that is better
  xdpprobe attach veth0 veth1 --netns blue    two interfaces of a network namespace
  xdpprobe attach wg0 --flows 1000000 --privacy cut"""
_OPTIONS = tuple(Settings.__dataclass_fields__)


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    default = Settings()
    parser = subparsers.add_parser(
        "attach",
        help="attach to interfaces, or update what is attached",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add("interfaces", nargs="+", type=typed, metavar="IFACE", help="interface to attach to")
    add("--hook", choices=hooks.HOOKS, help="where packets are seen (default auto)")
    add("--mode", choices=hooks.MODES, help="of XDP; skb sees merged packets (default native)")
    add("--direction", choices=hooks.DIRECTIONS, help="which packets (default both)")
    add("--netns", metavar="NAME", help="network namespace that the interfaces are in")
    add(
        "--signatures",
        metavar="DIR",
        type=Path,
        action="append",
        help="more signature files, above those of the package; may be given several times",
    )
    add("--flows", type=int, metavar="N", help=f"flow table entries (default {default.flows})")
    add("--names", type=int, metavar="N", help=f"name table entries (default {default.names})")
    for option, meaning, seconds in (
        ("--idle-new", "a flow of up to 8 packets without answer ends", default.idle_new),
        ("--idle-established", "an answered or longer flow ends", default.idle_established),
        ("--idle-closed", "a closed TCP flow ends", default.idle_closed),
    ):
        text = f"seconds of silence after which {meaning} (default {seconds:g})"
        add(option, type=float, metavar="S", help=text)
    text = f"seconds after which a flow that goes on is reported again (default {default.active:g})"
    add("--active", type=float, metavar="S", help=text)
    add(
        "--privacy",
        choices=PRIVACY,
        help="server names: kept, hashed, or cut to the registered domain (default none)",
    )
    add(
        "--tunnels",
        choices=TUNNELS,
        help="flows of VXLAN, Geneve, GTP-U, GRE and IP-in-IP are the tunnels themselves, or what"
        " they carry (default outer)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Attaches and says what was done."""
    from xdpprobe.attach import attach

    given = {name: getattr(args, name) for name in _OPTIONS}
    outcome = attach(
        args.interfaces,
        bpffs=args.bpffs,
        hook=args.hook,
        mode=args.mode,
        direction=args.direction,
        netns_name=args.netns,
        options={name: value for name, value in given.items() if value is not None},
        signatures=args.signatures,
        # From here on Ctrl-C comes too late, and the output shall say what was done.
        committing=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    for done in outcome.attached:
        name = streams.printable(done.interface)
        print(f"{name}: {done.hooks}, {done.why}")
        for note in done.notes:
            print(f"{name}: {note}")
    if outcome.erased:
        print(f"names: those known so far were erased, for --privacy {outcome.settings.privacy}")
    if outcome.replaced:
        again = command("signatures", "load", "DIR", bpffs=args.bpffs)
        print(
            "signatures: the last load was broken off; the shipped ones are in force now, "
            f"`{again}` puts your own above them"
        )
    size = memory.megabytes(memory.total(outcome.memory))
    print(
        f"tables: {outcome.settings.flows} flows, {outcome.settings.names} names, "
        f"{outcome.rules} name rules; kernel memory {size}"
    )
    return 0
