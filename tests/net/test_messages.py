# SPDX-License-Identifier: Apache-2.0
"""What is said is true and helps: names of any bytes, and commands that work as they are quoted."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.net.conftest import Cli, Veth
from tests.net.test_attach_trouble import refused
from xdpprobe.abi import load_abi
from xdpprobe.instance import Instance
from xdpprobe.lab.namespaces import Network
from xdpprobe.pins import Pins

UTF_8: dict[str, str] = {}  # whatever the tests run in
ASCII_ONLY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run(cli: Cli, locale: dict[str, str], *arguments: str) -> bytes:
    """What a command that must work prints."""
    done = subprocess.run(
        cli.argv(*arguments), capture_output=True, env=os.environ | locale, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.mark.parametrize(
    ("attaching", "reading"), [(UTF_8, ASCII_ONLY), (ASCII_ONLY, UTF_8)], ids=["utf-8", "ascii"]
)
def test_names_of_any_bytes_in_any_locale(
    network: Network, attaching: dict[str, str], reading: dict[str, str]
) -> None:
    name = os.fsdecode(b"n\xc3\xa4me\xff")  # text, and a byte that is none
    bpffs = network.mount_bpffs() / name
    bpffs.mkdir()
    subprocess.run(["mount", "-t", "bpf", "-o", "mode=0700", "bpf", bpffs], check=True)
    space, cli = network.add(name), Cli(bpffs)
    space.run("ip", "link", "add", name, "type", "veth", "peer", "name", "other")
    run(cli, attaching, "attach", "--netns", space.name, name)
    assert b"updated in place" in run(cli, attaching, "attach", "--netns", space.name, name)
    for command in ("status", "top --once", "apps", "hosts", f"doctor --netns {space.name} {name}"):
        run(cli, reading, *command.split())
    state = run(cli, reading, "status", "--json")
    assert b'"state": "down"' in state
    assert b'"name_now": "n' in state
    assert run(cli, reading, "detach", "--netns", space.name, name).endswith(b"totals are gone\n")
    assert not Path(bpffs, "xdpprobe").exists()


@pytest.mark.parametrize("command", ["status", "apps", "top --once", "detach --all", "detach eth0"])
def test_who_may_not_look_into_the_bpffs_is_told_to_be_root(cli: Cli, command: str) -> None:
    os.chown(cli.bpffs, 65534, -1)
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]  # not even CAP_DAC_OVERRIDE
    done = subprocess.run(
        [*bare, *cli.argv(*command.split())],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    message = f"xdpprobe: no permission for {cli.bpffs}/xdpprobe; run it as root\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


def halve(pins: Pins, lacking: str) -> None:
    """Leaves of a probe what an attach has made that stands before that step."""
    if lacking == "settings":
        with Instance(pins, load_abi()) as instance:
            tables = instance.tables()
            tables.write("info", tables.blank("info"))
    else:
        (pins.clock if lacking == "clock" else pins.map(lacking)).unlink()


@pytest.mark.parametrize("lacking", ["flow_hot", "slots", "clock", "settings"])
def test_readers_tell_an_attach_that_goes_on_from_one_that_was_killed(
    cli: Cli, veth: Veth, lacking: str
) -> None:
    cli.attach(veth.left)
    pins = Pins(cli.bpffs, load_abi().hash)
    halve(pins, lacking)
    for command in (["status"], ["apps"], ["top", "--once"]):
        with pins.lock():
            said = refused(cli, *command)
        assert f"an attach or detach is going on (under {cli.bpffs}); try again" in said
        said = refused(cli, *command)
        assert "is incomplete: " in said
        assert f"{lacking} " in said
        assert "`xdpprobe detach --all" in said


def test_who_holds_the_lock_is_told_what_is_incomplete(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left)
    halve(Pins(cli.bpffs, load_abi().hash), "slots")
    said = refused(cli, "detach", "eth0", "--netns", veth.left.namespace.name)
    assert "is incomplete: map slots is missing" in said
    assert "the tables and their totals are gone" in cli("detach", "--all").stdout


def copied(cli: Cli, said: str) -> subprocess.CompletedProcess[str]:
    """Runs the command that a message quotes, with this interpreter, and nothing added to it."""
    quoted = said.split("`")[1] if "`" in said else said
    name, *arguments = shlex.split(quoted)
    assert name == "xdpprobe"
    return subprocess.run(
        [*cli.argv()[:3], *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_quoted_command_works_as_it_is(cli: Cli, veth: Veth) -> None:
    space = veth.left.namespace.name
    cli.attach(veth.left, "--hook", "tc")
    said = refused(cli, "attach", "eth0", "--netns", space, "--hook", "xdp")
    assert copied(cli, said).stdout.startswith("eth0: detached\n")
    said = refused(cli, "detach", "eth0", "--netns", space)
    assert f"nothing is attached (under {cli.bpffs})" in copied(cli, said).stdout
    cli.attach(veth.left)
    halve(Pins(cli.bpffs, load_abi().hash), "clock")
    assert copied(cli, refused(cli, "apps")).stdout.startswith("eth0: detached\n")
    said = refused(cli, "apps").partition("attach first: ")[2].replace("IFACE", "eth0")
    assert "eth0: tc ingress" in copied(cli, f"{said.strip()} --netns {space}").stdout


def test_a_command_for_a_probe_of_another_version_works_as_it_is(cli: Cli, veth: Veth) -> None:
    pins = Pins(cli.bpffs, load_abi().hash)
    other = pins.root / "0123456789abcdef"
    for ask in (
        lambda: refused(cli, "attach", "eth0", "--netns", veth.left.namespace.name),
        lambda: refused(cli, "apps"),
        lambda: cli("status", check=False).stdout,
    ):
        cli.attach(veth.left)
        pins.path.rename(other)
        assert "removed" in copied(cli, ask()).stdout
        assert not pins.root.exists()


@pytest.mark.parametrize(
    ("netns", "words"),
    [
        ("/etc/passwd", "/etc/passwd is not a network namespace; `ip netns list`"),
        ("/dev/null", "/dev/null is not a network namespace; `ip netns list`"),
        ("..", ".. is not a network namespace; `ip netns list`"),
        ("", "'' is not a network namespace; `ip netns list`"),
        ("x" * 300, "there is no network namespace x"),
        ("/proc/self/ns/mnt", "a namespace of another kind; `ip netns list`"),
    ],
)
def test_what_is_no_network_namespace_is_one_line(cli: Cli, netns: str, words: str) -> None:
    for command in ("attach", "doctor"):
        done = cli(command, "eth0", "--netns", netns, check=False)
        assert done.returncode != 0
        assert words in done.stdout.replace("\n" + 21 * " " + "try: ", "; ") + done.stderr
        assert done.stderr.count("\n") <= 1
