# SPDX-License-Identifier: Apache-2.0
"""What gets in the way of an attach: others on the hook, interfaces that change, broken places."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.conftest import Cli, Veth
from tests.net.frames import send
from tests.net.test_attach import COUNT, empty, interfaces
from xdpprobe import syscall
from xdpprobe.abi import load_abi
from xdpprobe.lab.namespaces import Network
from xdpprobe.loader import load_object
from xdpprobe.pins import Pins


def refused(cli: Cli, *arguments: str, code: int = 1) -> str:
    """What a command that must fail says: one line."""
    done = cli(*arguments, check=False)
    assert done.returncode == code, done
    assert done.stdout == ""
    assert done.stderr.startswith("xdpprobe: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture
def foreign() -> Iterator[Cli]:
    """A second xdpprobe, which knows nothing of the first."""
    with Network() as network:
        yield Cli(network.mount_bpffs())


def test_foreign_xdp_program_is_named(cli: Cli, foreign: Cli, veth: Veth) -> None:
    space = veth.left.namespace.name
    foreign.attach(veth.left, "--hook", "xdp", "--direction", "ingress")
    said = refused(cli, "attach", "--netns", space, "--hook", "xdp", "eth0")
    assert "XDP program xdp_entry (id " in said
    assert "--hook tc" in said
    assert empty(cli.bpffs)
    cli.attach(veth.left)
    send(veth.right, COUNT)
    for other in (cli, foreign):
        assert other.json("status")["interfaces"][0]["packets"][0] == COUNT
    foreign("detach", "--all")
    assert cli.json("status")["interfaces"][0]["state"] == "up"


def test_all_interfaces_or_none(cli: Cli, foreign: Cli, veth: Veth) -> None:
    """The second one is taken: the first must not stay attached."""
    left = veth.left.namespace
    left.ip("link add one type veth peer name two\nlink set one up\nlink set two up\n")
    foreign("attach", "two", "--netns", left.name, "--hook", "xdp")
    refused(cli, "attach", "one", "two", "--netns", left.name, "--hook", "xdp")
    assert empty(cli.bpffs)
    assert "xdp" not in left.links()["one"]
    foreign("detach", "--all")
    cli("attach", "one", "two", "--netns", left.name, "--hook", "xdp")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("attach", "eth"), 2, "there is no interface eth; there is eth0"),
        (("attach", "an-interface-name-that-is-long"), 2, "cannot be the name"),
        (("attach", "eth0", "--flows", "7"), 2, "--flows 7 is out of range"),
        (("attach", "eth0", "--idle-new", "0"), 2, "--idle-new 0.0 is out of range"),
        (("attach", "eth0", "--mode", "fast"), 2, "invalid choice"),
        (("attach", "eth0", "--hook", "tc", "--mode", "skb"), 2, "--mode skb is for XDP only"),
        (("attach", "eth0", "--hook", "xdp", "--direction", "egress"), 2, "incoming packets only"),
        (("attach", "eth0", "--signatures", "/nowhere"), 1, "/nowhere"),
        (("attach", "--netns", "nowhere", "eth0"), 2, "no network namespace nowhere"),
        (("detach", "eth0"), 1, "nothing is attached"),
        (("detach",), 2, "name the interfaces to detach, or --all"),
        (("dump",), 1, "nothing is attached"),
    ],
)
def test_wrong_use_is_one_line(
    cli: Cli, veth: Veth, arguments: tuple[str, ...], code: int, words: str
) -> None:
    if "--netns" not in arguments and arguments[0] == "attach":
        arguments = (*arguments, "--netns", veth.left.namespace.name)
    assert words in refused(cli, *arguments, code=code)
    assert empty(cli.bpffs)


def test_nothing_attached(cli: Cli) -> None:
    done = cli("status", check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "nothing is attached" in done.stdout
    report = json.loads(cli("status", "--json", check=False).stdout)
    assert (report["attached"], report["interfaces"]) == (False, [])
    assert cli("detach", "--all").stdout == "nothing was attached\n"


def test_interface_goes_down_and_is_renamed(cli: Cli, veth: Veth) -> None:
    space = veth.left.namespace
    cli.attach(veth.left)
    space.ip("link set eth0 down\n")
    assert interfaces(cli)[space.name]["state"] == "down"
    space.ip("link set eth0 name wan\nlink set wan up\n")
    assert interfaces(cli)[space.name]["name_now"] == "wan"
    send(veth.right, COUNT)
    assert interfaces(cli)[space.name]["packets"][0] == COUNT
    assert "updated in place" in cli("attach", "wan", "--netns", space.name).stdout
    assert interfaces(cli)[space.name]["interface"] == "wan"
    cli("detach", "wan", "--netns", space.name)
    assert empty(cli.bpffs)


def test_interface_disappears(cli: Cli, veth: Veth) -> None:
    space = veth.left.namespace
    cli.attach(veth.left, "--hook", "xdp")
    send(veth.right, COUNT)
    space.ip("link delete eth0\n")
    entry = interfaces(cli)[space.name]
    assert (entry["state"], entry["packets"][0]) == ("gone", COUNT)
    assert "eth0: the interface is gone" in cli("detach", "--all").stdout
    assert empty(cli.bpffs)


def test_totals_outlive_an_interface_that_comes_back(cli: Cli, veth: Veth) -> None:
    space = veth.left.namespace
    cli.attach(veth.left)
    since = cli.status()["since"]
    space.ip("link delete eth0\nlink add eth0 type veth peer name eth1\n")
    cli.attach(veth.left)
    (entry,) = cli.json("status")["interfaces"]
    assert entry["state"] in ("up", "down")
    assert cli.status()["since"] == since


def test_interface_moves_to_another_namespace(cli: Cli, network: Network, veth: Veth) -> None:
    """Its programs go with it; an attach there takes it for what it is."""
    away = network.add("away")
    for hook in ("tc", "xdp"):
        cli.attach(veth.left, "--hook", hook)
        veth.left.namespace.ip(f"link set eth0 netns {away.name}\n")
        assert interfaces(cli)[veth.left.namespace.name]["state"] == "moved"
        assert "updated in place" in cli("attach", "eth0", "--netns", away.name).stdout
        assert interfaces(cli)[away.name]["state"] == "down"
        away.ip("link set eth0 up\n")
        before = interfaces(cli)[away.name]["packets"][0]
        send(veth.right, COUNT)
        assert interfaces(cli)[away.name]["packets"][0] >= before + COUNT
        cli("detach", "eth0", "--netns", away.name)
        assert empty(cli.bpffs)
        away.ip(f"link set eth0 netns {veth.left.namespace.name}\n")


def test_detach_from_a_namespace_that_is_gone(cli: Cli, network: Network, veth: Veth) -> None:
    cli.attach(veth.right)
    gone = network.add("gone")
    gone.ip("link add eth0 type veth peer name eth1\n")
    cli("attach", "eth0", "--netns", gone.name)
    subprocess.run(["ip", "netns", "delete", gone.name], check=True, timeout=10)
    assert "no network namespace" in refused(cli, "detach", "eth0", "--netns", "nowhere", code=2)
    assert "is not attached" in refused(cli, "detach", "eth7", "--netns", gone.name)
    assert "eth0: " in cli("detach", "eth0", "--netns", gone.name).stdout
    assert list(interfaces(cli)) == [veth.right.namespace.name]


def test_a_number_that_was_given_anew_is_another_interface(
    cli: Cli, network: Network, veth: Veth
) -> None:
    away, here = network.add("away"), veth.left.namespace
    here.ip("link add one index 777 type veth peer name two\nlink set one up\n")
    cli("attach", "one", "--netns", here.name)
    here.ip(f"link set one netns {away.name}\nlink add six index 777 type veth peer name ten\n")
    assert interfaces(cli)[here.name]["state"] == "moved"
    assert "updated" not in cli("attach", "six", "--netns", here.name).stdout
    assert "updated" in cli("attach", "six", "--netns", here.name).stdout
    assert "updated" in cli("attach", "one", "--netns", away.name).stdout
    cli("detach", "--all")


def test_a_refused_attach_keeps_the_totals(cli: Cli, foreign: Cli, veth: Veth) -> None:
    space = veth.left.namespace
    space.ip("link add one type veth peer name two\nlink set one up\nlink set two up\n")
    foreign("attach", "two", "--netns", space.name, "--hook", "xdp")
    cli.attach(veth.left)
    send(veth.right, COUNT)
    space.ip("link delete eth0\n")
    since = cli.status()["since"]
    refused(cli, "attach", "two", "--netns", space.name, "--hook", "xdp", "--flows", "16384")
    assert cli.status()["since"] == since
    cli("attach", "one", "--netns", space.name, "--flows", "16384")
    assert cli.status()["since"] != since
    foreign("detach", "--all")
    cli("detach", "--all")
    assert empty(cli.bpffs)


def test_a_slot_is_taken_anew_as_late_as_can_be(cli: Cli, veth: Veth) -> None:
    """Flows that remain in the table name their interface by its slot."""
    cli.attach(veth.right)
    pins = Pins(cli.bpffs, load_abi().hash)
    taken = []
    for _ in range(2):
        cli.attach(veth.left)
        taken += [slot for slot in pins.used_slots() if slot]
        cli("detach", "eth0", "--netns", veth.left.namespace.name)
    assert taken == [1, 2]


def test_a_second_xdpprobe_at_tc_is_mentioned(cli: Cli, foreign: Cli, veth: Veth) -> None:
    assert "another xdpprobe" not in cli.attach(veth.left).stdout
    assert "eth0: another xdpprobe counts here too" in foreign.attach(veth.left).stdout
    foreign("detach", "--all")
    assert "another xdpprobe" not in cli.attach(veth.left).stdout


def test_probe_of_another_version(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left)
    ours = cli.bpffs / "xdpprobe" / load_abi().hash
    other = ours.with_name("0123456789abcdef")
    ours.rename(other)
    assert "another xdpprobe version" in cli("status", check=False).stdout
    for command in (("attach", "--netns", veth.left.namespace.name, "eth0"), ("apps",), ("dump",)):
        said = refused(cli, *command)
        assert "another xdpprobe version" in said
        assert "detach --all" in said
    assert "0123456789abcdef): removed" in cli("detach", "--all").stdout
    assert empty(cli.bpffs)
    cli.attach(veth.left)


def test_no_bpffs(tmp_path: Path, veth: Veth) -> None:
    for bpffs in (tmp_path, tmp_path / "missing"):
        cli = Cli(bpffs)
        said = refused(cli, "attach", "--netns", veth.left.namespace.name, "eth0")
        assert f"mount -t bpf -o mode=0700 bpf {bpffs}" in said
        assert f"mount -t bpf -o mode=0700 bpf {bpffs}" in refused(cli, "status")


@pytest.mark.parametrize("made", ["open", "foreign", "link"])
def test_a_pin_directory_of_somebody_else_is_refused(cli: Cli, veth: Veth, made: str) -> None:
    root = cli.bpffs / "xdpprobe"
    if made == "link":
        root.symlink_to("/")
    else:
        root.mkdir()
        root.chmod(0o777 if made == "open" else 0o700)
        os.chown(root, 65534 if made == "foreign" else 0, -1)
    for command in (["attach", "--netns", veth.left.namespace.name, "eth0"], ["status"]):
        assert "cannot be trusted" in refused(cli, *command)
    (root.unlink if made == "link" else root.rmdir)()
    cli.attach(veth.left)


def test_read_only_bpffs(cli: Cli, veth: Veth) -> None:
    remount = ["mount", "-o", "remount,bind"]
    subprocess.run([*remount, "-r", str(cli.bpffs)], check=True, timeout=10)
    try:
        said = refused(cli, "attach", "--netns", veth.left.namespace.name, "eth0")
    finally:
        subprocess.run([*remount, "-w", str(cli.bpffs)], check=True, timeout=10)
    assert "read-only" in said
    assert "remount,rw" in said


def test_without_capabilities(cli: Cli, veth: Veth) -> None:
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    done = subprocess.run(
        [*bare, *cli.argv("attach", "eth0")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    for capability in ("CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"):
        assert capability in done.stderr
    assert done.stderr.count("\n") == 1


def test_needed_capabilities_suffice(cli: Cli, veth: Veth) -> None:
    kept = "+bpf,+net_admin,+perfmon"
    few = ["setpriv", f"--bounding-set=-all,{kept}", f"--inh-caps=-all,{kept}"]
    inside = ["nsenter", f"--net=/run/netns/{veth.left.namespace.name}"]
    for command in ("attach", "detach"):
        done = subprocess.run(
            [*inside, *few, *cli.argv(command, "eth0")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_a_slot_that_was_left_half_made_is_reused(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left)
    pins = Pins(cli.bpffs, load_abi().hash)
    link = pins.slot(0) / "tc_egress_link"
    link.unlink()
    (entry,) = cli.json("status")["interfaces"]
    assert entry["state"] == "incomplete"
    cli.attach(veth.left)
    (entry,) = cli.json("status")["interfaces"]
    assert entry["state"] == "up"
    send(veth.left, COUNT)
    assert cli.json("status")["interfaces"][0]["packets"][1] == COUNT


def test_tables_that_are_incomplete_are_made_anew(cli: Cli, veth: Veth) -> None:
    pins = Pins(cli.bpffs, load_abi().hash)
    pins.make()
    with load_object(hz=250, flows=1024, names=1024) as loaded:
        syscall.pin(loaded.map_fd("flow_hot"), pins.map("flow_hot"))
    refused(cli, "apps")
    cli.attach(veth.left)
    assert cli.json("status")["flows"]["capacity"] == 262144


def test_lock_is_waited_for(cli: Cli, veth: Veth) -> None:
    pins = Pins(cli.bpffs, load_abi().hash)
    with pins.lock():
        child = subprocess.Popen(
            cli.argv("attach", "--netns", veth.left.namespace.name, "eth0"),
            stdout=subprocess.DEVNULL,
        )
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1.5)
        assert os.listdir(pins.root) == []
    assert child.wait(60) == 0
