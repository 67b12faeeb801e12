# SPDX-License-Identifier: Apache-2.0
"""Which hooks an interface gets."""

import pytest

from xdpprobe.errors import UsageError
from xdpprobe.hooks import Hook, choose, hooks_of, plan_notes
from xdpprobe.netdev import Interface

XDP, IN, OUT = Hook.XDP, Hook.TC_INGRESS, Hook.TC_EGRESS


def interface(kind: str = "", master: str = "", type: int = 1, rx_vlan: bool = False) -> Interface:
    return Interface("eth0", 2, type, kind, master, "ixgbe", 1500, "up", False, (), rx_vlan)


@pytest.mark.parametrize(
    ("device", "hook", "mode", "direction", "hooks", "chosen"),
    [
        (interface(), "auto", None, "both", (XDP, OUT), "native"),
        (interface(), "auto", None, "ingress", (XDP,), "native"),
        (interface(), "auto", None, "egress", (OUT,), ""),
        (interface("veth"), "auto", None, "both", (IN, OUT), ""),
        (interface("tun"), "auto", None, "both", (IN, OUT), ""),
        (interface("wireguard", type=65534), "auto", None, "both", (IN, OUT), ""),
        (interface(type=772), "auto", None, "both", (IN, OUT), ""),
        (interface(master="bridge"), "auto", None, "both", (IN, OUT), ""),
        (interface(master="bond"), "auto", None, "both", (XDP, OUT), "native"),
        (interface("veth"), "xdp", None, "both", (XDP, OUT), "native"),
        (interface("veth"), "xdp", "skb", "ingress", (XDP,), "skb"),
        (interface("veth"), "auto", "skb", "both", (XDP, OUT), "skb"),
        (interface(), "tc", None, "ingress", (IN,), ""),
    ],
)
def test_choice(
    device: Interface,
    hook: str,
    mode: str | None,
    direction: str,
    hooks: tuple[Hook, ...],
    chosen: str,
) -> None:
    plan = choose(device, hook, mode, direction)
    assert (plan.hooks, plan.mode) == (hooks, chosen)
    assert plan.why


def test_only_auto_falls_back_and_never_to_skb() -> None:
    auto = choose(interface(), "auto", None, "both")
    assert auto.fallback is not None
    assert (auto.fallback.hooks, auto.fallback.mode) == ((IN, OUT), "")
    assert auto.fallback.fallback is None
    for hook, mode in (("xdp", None), ("xdp", "native"), ("auto", "skb"), ("tc", None)):
        assert choose(interface(), hook, mode, "both").fallback is None


@pytest.mark.parametrize(
    ("hook", "mode", "direction", "words"),
    [
        ("tc", "native", "both", "--mode native is for XDP only"),
        ("xdp", None, "egress", "incoming packets only"),
        ("auto", "skb", "egress", "incoming packets only"),
        ("ebpf", None, "both", "--hook ebpf is unknown"),
        ("auto", "offload", "both", "--mode offload is unknown"),
        ("auto", None, "up", "--direction up is unknown"),
    ],
)
def test_options_that_exclude_each_other(
    hook: str, mode: str | None, direction: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        choose(interface(), hook, mode, direction)


def test_bits_are_those_of_slot_info() -> None:
    assert [hook.bit for hook in Hook] == [1, 2, 4]
    assert hooks_of(5) == (XDP, OUT)
    assert hooks_of(0) == ()


def test_a_user_is_told_of_tags_that_native_xdp_does_not_see() -> None:
    hardware, device = interface(rx_vlan=True), interface("veth", rx_vlan=True)
    (note,) = plan_notes(choose(hardware, "auto", None, "both"), hardware, "mend it")
    assert note.endswith("`mend it` mends it")
    assert plan_notes(choose(hardware, "tc", None, "both"), hardware, "mend it") == ()
    assert plan_notes(choose(device, "xdp", None, "both"), device, "mend it") == ()
    assert plan_notes(choose(interface(), "auto", None, "both"), interface(), "mend it") == ()


def test_a_user_is_told_of_merged_packets() -> None:
    (note,) = plan_notes(choose(interface(), "xdp", "skb", "both"), interface(), "mend it")
    assert "merged packets" in note
