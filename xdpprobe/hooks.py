# SPDX-License-Identifier: Apache-2.0
"""Which hooks of an interface the probe takes, and why; nothing is attached here."""

from dataclasses import dataclass, replace
from enum import Enum

from xdpprobe.errors import KernelError, UsageError
from xdpprobe.netdev import ETHERNET, Interface

HOOKS = ("auto", "xdp", "tc")
MODES = ("native", "skb")
DIRECTIONS = ("both", "ingress", "egress")
TAGS_HIDDEN = "VLAN tags are taken out before XDP sees them: a VLAN's flows are counted in halves"
MODE_NUMBERS = {"": 0, "native": 1, "skb": 2}  # slot_info.mode


class Hook(Enum):
    """A place where a packet is seen. The value is the entry program, and its pin's name."""

    XDP = "xdp_entry"
    TC_INGRESS = "tc_ingress"
    TC_EGRESS = "tc_egress"

    @property
    def bit(self) -> int:
        """Its bit in slot_info.hook."""
        return {Hook.XDP: 1, Hook.TC_INGRESS: 2, Hook.TC_EGRESS: 4}[self]

    @property
    def text(self) -> str:
        """As it is printed."""
        return "xdp ingress" if self is Hook.XDP else self.value.replace("_", " ")

    @property
    def link(self) -> str:
        """Name of its link's pin."""
        return f"{self.value}_link"

    @property
    def stages(self) -> str:
        """The PROG_ARRAY that its program calls into."""
        return "xdp_stages" if self is Hook.XDP else "tc_stages"


# More bits of slot_info.hook, for kernels without TCX (before 6.6).
BY_CLSACT = 8  # the tc hooks are filters of a clsact qdisc
OWN_QDISC = 16  # that qdisc was made for them


@dataclass(frozen=True)
class Plan:
    """Hooks in the order in which they are attached. mode: "native", "skb", or "" at tc.

    why: a clause for the user. fallback: what to do where the driver has no native XDP; None
    where the user asked for XDP.
    """

    hooks: tuple[Hook, ...]
    mode: str
    why: str
    fallback: "Plan | None" = None

    @property
    def text(self) -> str:
        """As `xdp ingress (native) + tc egress`."""
        mode = f" ({self.mode})" if self.mode else ""
        return " + ".join(h.text + (mode if h is Hook.XDP else "") for h in self.hooks)

    def fallback_for(self, error: KernelError) -> "Plan":
        """The fallback, with what the kernel said to this plan in its clause."""
        assert self.fallback is not None
        return replace(self.fallback, why=f"{self.fallback.why}: {error.reason}")


def hooks_of(bits: int) -> tuple[Hook, ...]:
    """The hooks in slot_info.hook."""
    return tuple(hook for hook in Hook if bits & hook.bit)


def choose(interface: Interface, hook: str, mode: str | None, direction: str) -> Plan:
    """The plan for an interface. Raises UsageError for options that exclude each other."""
    _check(hook, mode, direction)
    if hook == "tc":
        return _tc(direction, "as asked")
    if hook == "xdp" or mode is not None:
        return _xdp(direction, mode or "native", "as asked")
    why = _why_tc(interface, direction)
    if why:
        return _tc(direction, why)
    return _xdp(
        direction,
        "native",
        f"driver {interface.driver or 'unknown'} has native XDP",
        _tc(direction, f"driver {interface.driver or 'unknown'} refused native XDP"),
    )


def show_tags(name: str) -> str:
    """The command that ends TAGS_HIDDEN."""
    return f"ethtool -K {name} rxvlan off"


def plan_notes(plan: Plan, interface: Interface, show_tags: str) -> tuple[str, ...]:
    """What a user of that plan should know about its counts; `show_tags`: as it is to be typed."""
    notes = []
    if plan.mode == "skb":
        notes.append("counts are of merged packets (GRO), as skb mode sees them")
    if plan.mode == "native" and interface.hides_tags:
        notes.append(f"{TAGS_HIDDEN}; `{show_tags}` mends it")
    return tuple(notes)


def _check(hook: str, mode: str | None, direction: str) -> None:
    for value, known, option in (
        (hook, HOOKS, "--hook"),
        (mode or "native", MODES, "--mode"),
        (direction, DIRECTIONS, "--direction"),
    ):
        if value not in known:
            raise UsageError(f"{option} {value} is unknown", f"one of {', '.join(known)}")
    if hook == "tc" and mode is not None:
        raise UsageError(f"--mode {mode} is for XDP only", "leave it out with --hook tc")
    if direction == "egress" and (hook == "xdp" or mode is not None):
        raise UsageError("XDP sees incoming packets only", "use --hook tc for --direction egress")


def _why_tc(interface: Interface, direction: str) -> str:
    """Why `auto` takes tc, "" where native XDP is worth trying."""
    if interface.type != ETHERNET:
        return (
            "it is the loopback device" if interface.name == "lo" else "it has no Ethernet header"
        )
    if direction == "egress":
        return "XDP sees incoming packets only"
    if interface.master == "bridge":
        return "it is a bridge port"
    if interface.kind:
        return f"native XDP would slow a {interface.kind} device down"
    return ""


def _tc(direction: str, why: str) -> Plan:
    wanted = {
        "both": (Hook.TC_INGRESS, Hook.TC_EGRESS),
        "ingress": (Hook.TC_INGRESS,),
        "egress": (Hook.TC_EGRESS,),
    }
    return Plan(wanted[direction], "", why)


def _xdp(direction: str, mode: str, why: str, fallback: Plan | None = None) -> Plan:
    hooks = (Hook.XDP, Hook.TC_EGRESS) if direction == "both" else (Hook.XDP,)
    return Plan(hooks, mode, why, fallback)
