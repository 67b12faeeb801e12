# SPDX-License-Identifier: Apache-2.0
"""What a user may hand over, how it is read, and good examples of it to begin with."""

import contextlib
import io
import itertools
import math
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tests import captures
from tests.match_tables import Layouts
from tests.packets import Conversation
from tests.unit import view_samples
from xdpprobe import catalogue, public_suffix, signature_file
from xdpprobe.abi import load_abi
from xdpprobe.capture import MAX_PACKET, MAX_TIME_NS, Capture
from xdpprobe.cli import build_parser
from xdpprobe.filter import KEYS, Filter
from xdpprobe.linktypes import to_ethernet
from xdpprobe.patterns import check
from xdpprobe.patterns.compiler import compile_signatures
from xdpprobe.patterns.texts import add_layer, compile_texts
from xdpprobe.rules import RuleIndex, compile_rules
from xdpprobe.settings import Settings

NAME = Path("fuzzed")

Target = Callable[[bytes], None]


class Broken(Exception):
    """Not an error of the project's, but something that must not be."""


def read_capture(data: bytes) -> None:
    """pcap and pcapng, and every packet as Ethernet."""
    with Capture(NAME, io.BytesIO(data)) as capture:  # type: ignore[arg-type]
        for number, packet in enumerate(capture):
            if number > len(data):
                raise Broken("more packets than bytes")
            if len(packet.data) > MAX_PACKET or not 0 <= packet.time_ns <= MAX_TIME_NS:
                raise Broken(f"a packet that cannot be: {packet.time_ns}, {len(packet.data)}")
            if packet.wire_length < 0:
                raise Broken(f"a negative length: {packet.wire_length}")
            to_ethernet(packet)


def read_signatures(data: bytes) -> None:
    """A signature file, alone and as rules and patterns of the kernel's tables."""
    merged = catalogue._Merged()
    contents = signature_file.parse(NAME, data)
    merged.add(contents.entries)
    rules = merged.rules()
    add_layer(set(), contents.signatures)
    signatures = list(merged.resolve(contents.signatures))
    check.doubts(compile_signatures(signatures, Layouts()))
    compile_texts(signatures, Layouts())
    check.text_doubts(signatures)
    abi = load_abi()
    compile_rules(rules, abi.dtype("name_key"), abi.dtype("name_rule"))
    index = RuleIndex(rules)
    for rule in rules:
        index.match(rule.name)


def read_suffixes(data: bytes) -> None:
    """A public suffix list."""
    public_suffix.parse(data.decode(errors="surrogateescape"))


@cache
def _flows() -> Any:
    return view_samples.crowd(256, 150)


def read_filter(data: bytes) -> None:
    """A filter, on a few hundred flows."""
    wanted = Filter(data.decode(errors="surrogateescape"))
    wanted.check(_flows())
    wanted.rows(_flows())


def read_settings(data: bytes) -> None:
    """Names of settings and their values, an assignment a line."""
    given_settings: dict[str, Any] = {}
    for line in data.decode(errors="replace").splitlines():
        name, _, value = line.partition("=")
        if name in Settings.__dataclass_fields__:
            given_settings[name] = _value(name, value)
    made = Settings(**given_settings)
    if any(math.isnan(v) for v in (made.idle_new, made.active)):
        raise Broken("a time that is no number")


def _value(name: str, text: str) -> Any:
    if name in ("privacy", "tunnels"):
        return text
    try:
        return int(text) if name in ("flows", "names") else float(text)
    except ValueError:
        return 0


def read_arguments(data: bytes) -> None:
    """A command line, as far as it is understood and not run. argparse ends it with 0 or 2."""
    words = data.decode(errors="surrogateescape").split()
    quiet = io.TextIOWrapper(io.BytesIO(), errors="backslashreplace")
    with contextlib.redirect_stderr(quiet), contextlib.redirect_stdout(quiet):
        try:
            build_parser().parse_args(words)
        except SystemExit as end:
            if end.code not in (0, 2):
                raise Broken(f"ends with {end.code}") from end


@cache
def capture_seeds() -> list[bytes]:
    talk = Conversation()
    frames = [*talk.handshake(), talk.tcp(b"data"), talk.udp(b"data")]
    found = [
        captures.pcap(frames, order=order, magic=magic)
        for order, magic in itertools.product("<>", (0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34))
    ]
    found += [
        captures.pcap([frame[14:] for frame in frames], link_type=link)
        for link in (0, 9, 12, 101, 104, 113, 192, 228, 276)
    ]
    for order in "<>":
        options = [(9, b"\x09"), (13, b"\x04"), (14, struct.pack(order + "q", 7))]
        found.append(
            captures.section(order)
            + captures.interface(order, options=options, snap_length=96)
            + b"".join(captures.packet(f, order, kind=k) for f in frames for k in (6, 2, 3))
        )
    return found


PATTERNS = r"""[[protocol]]
id = 500
name = "p"
title = "P"
category = "network"

[[signature]]
protocol = "p"
l4 = "udp"
match = ['(?i)a[^\x00b-f]\m{f0:40}.{2,9}$', '.{3}(\x01|GE)+[a-z]*']
port = [123, "6881-6889"]
length = "4-"
field = { at = 4, size = 1, order = "little", plus = -4, is = "within" }
packet = "2-3"
after = "q"
confidence = 80

[[signature]]
name = "q"
l4 = "tcp"
match = 'abc*d'
from = "responder"
search = 9
"""


@cache
def signature_seeds() -> list[bytes]:
    """The first entries of each shipped file, whole ones; but of those that name what stands in
    another file."""
    texts = [path.read_bytes()[:3000] for path in sorted(catalogue.SHIPPED.glob("*.toml"))]
    seeds = [PATTERNS.encode(), *(text.rpartition(b"\n\n")[0] or text for text in texts)]
    return [seed for seed in seeds if _stands_alone(seed)]


def _stands_alone(seed: bytes) -> bool:
    contents = signature_file.parse(NAME, seed)
    named = {("protocol", one.protocol) for one in contents.signatures}
    named |= {("app", one.app) for one in contents.signatures}
    return {(kind, name) for kind, name in named if name} <= {
        (entry.kind, entry.name) for entry in contents.entries
    }


SUFFIXES = "// ===BEGIN ICANN DOMAINS===\ncom\n*.ck\n!www.ck\nco.uk\n// ===END ICANN DOMAINS===\n"
FILTERS = (
    "app:youtube host:10.0.0.0/8 sni:*.google.com port:443 dir:out proto:quic bytes>1M not cat:ads",
    '(iface:"a b" or sni:/^(a|b)+c$/) and (idle<5m or duration>=1.5h) vlan:0,1-7 state:est',
    "src:2001:db8::/32 dst:192.0.2.1 sport:1-1023 method:sni iface:eth* l4:tcp,17 packets=3Ki",
)
SETTINGS_TEXT = "\n".join(
    f"{name}={field.default}" for name, field in Settings.__dataclass_fields__.items()
)
ARGUMENTS = (
    "attach eth0 --hook auto --flows 4096 --privacy cut --tunnels inner",
    "flows --json --filter app:tls --sort bytes --reverse --limit 5",
    "top --interval 1",
    "replay file.pcap --json",
    "bench --quick --flows 4096 --hook tc",
    "signatures check file.toml",
)

TARGETS: dict[str, tuple[Target, Callable[[], list[bytes]], tuple[bytes, ...]]] = {
    "captures": (read_capture, capture_seeds, (b"\x0a\x0d\x0d\x0a", b"\xff\xff\xff\xff", bytes(4))),
    "signatures": (
        read_signatures,
        signature_seeds,
        (
            b"[[app]]\n",
            b'"',
            b"'''",
            b"\\",
            b"id = ",
            b'name = "x"\n',
            b"l4 = [",
            b"9" * 5000,
            b".*",
            b"{0,99}",
        ),
    ),
    "suffixes": (read_suffixes, lambda: [SUFFIXES.encode()], (b"*.", b"!", b"\xc3\xbc", b"xn--")),
    "filters": (
        read_filter,
        lambda: [text.encode() for text in FILTERS],
        (
            *(f"{key}:".encode() for key in KEYS),
            b"(",
            b")",
            b"not ",
            b"/",
            b'"',
            b">",
            b"-",
            b"[",
            b"*",
        ),
    ),
    "settings": (
        read_settings,
        lambda: [SETTINGS_TEXT.encode()],
        (b"nan", b"inf", b"-1", b"1e309"),
    ),
    "arguments": (
        read_arguments,
        lambda: [text.encode() for text in ARGUMENTS],
        (b" --", b"=", b" -h ", b" 0 ", b" -1 ", b" nan ", b" \xff "),
    ),
}
