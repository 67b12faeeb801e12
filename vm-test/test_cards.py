# SPDX-License-Identifier: Apache-2.0
"""Network cards that veth is no stand-in for: counting and naming between two of them."""

import time

import pytest

from tests.net.conftest import Cli, End, Veth
from tests.net.frames import send
from tests.packets import SYN, Conversation, Endpoint
from xdpprobe.bench.messages import modern_hello

COUNT = 200
PATIENCE_S = 20.0
SMALL = ("--flows", "16384", "--names", "4096")  # a guest takes its time to read a large table
HOOKS = {
    "auto": (),
    "native": ("--hook", "xdp", "--mode", "native"),
    "skb": ("--hook", "xdp", "--mode", "skb"),
    "tc": ("--hook", "tc"),
}
UPDATED = ("tc", "native")  # in place, after that: skb is the kernel's, whatever the driver


def attach(cli: Cli, end: End, kind: str, *options: str) -> str:
    """Attaches, and gives what was said; skips where the driver has no native XDP."""
    done = cli(
        "attach", *SMALL, "--netns", end.namespace.name, *options, end.interface, check=False
    )
    if done.returncode and "native" in options and "not supported" in done.stderr:
        pytest.skip(f"{kind}: the driver has no native XDP")
    assert done.returncode == 0, done.stderr
    return done.stdout


def arrived(cli: Cli, packets: list[int]) -> list[int]:
    """What status counts, once it has come to that: a card takes its time, unlike veth."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        (entry,) = cli.json("status")["interfaces"]
        found: list[int] = entry["packets"]
        if found == packets or time.monotonic() > deadline:
            return found


@pytest.mark.parametrize("how", HOOKS)
def test_every_frame_counts_once_and_a_hello_in_two_is_named(
    cli: Cli, cards: Veth, kind: str, how: str
) -> None:
    attach(cli, cards.left, kind, *HOOKS[how])
    (entry,) = cli.json("status")["interfaces"]
    assert entry["state"] == "up"
    before = entry["packets"]
    send(cards.right, COUNT)
    send(cards.left, COUNT + 2)
    hello = modern_hello("www.youtube.com")
    talk = Conversation(Endpoint("10.0.0.2", 40000), Endpoint("10.0.0.1", 443))
    send(cards.right, 1, talk.tcp(seq=0, flags=SYN))
    for at in (0, 1200):
        send(cards.right, 1, talk.tcp(hello[at : at + 1200], seq=1 + at))
    expected = [before[0] + COUNT + 3, before[1] + COUNT + 2]
    assert arrived(cli, expected) == expected
    (flow,) = (flow for flow in cli.json("flows")["flows"] if flow["app"])
    assert (flow["app"], flow["host"], flow["packets"]) == ("youtube", "www.youtube.com", [3, 0])
    if how in UPDATED:
        assert "updated in place" in attach(cli, cards.left, kind)
        send(cards.right, COUNT)
        expected[0] += COUNT
        assert arrived(cli, expected) == expected
    cli("detach", "--all")
