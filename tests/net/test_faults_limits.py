# SPDX-License-Identifier: Apache-2.0
"""Limits of the process: locked memory does not matter, a memory cgroup's or on files is told."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.conftest import Cli
from tests.net.test_attach import empty
from xdpprobe import syscall
from xdpprobe.abi import load_abi
from xdpprobe.attach import attach as attach_in_process
from xdpprobe.detach import detach
from xdpprobe.errors import KernelError
from xdpprobe.lab.namespaces import Namespace, Network
from xdpprobe.pins import Pins

LIMIT = 200 << 20  # the command and the default tables take 130 MB
TOO_MANY = str(4 << 20)  # flows: 256 MB of `flow_hot` alone


@pytest.fixture
def space(network: Network) -> Namespace:
    """A namespace with an interface."""
    space = network.add("space")
    space.ip("link add eth0 type veth peer name eth1\n")
    return space


def attach(
    cli: Cli, space: Namespace, before: list[str], *options: str
) -> subprocess.CompletedProcess[str]:
    """An attach by a command line that sets a limit before."""
    return subprocess.run(
        [*before, *cli.argv("attach", "eth0", "--netns", space.name, *options)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_no_locked_memory_is_needed(cli: Cli, space: Namespace) -> None:
    plain = ["setpriv", "--bounding-set=-sys_resource,-ipc_lock", "--inh-caps=-sys_resource"]
    for limit in (0, 65536):
        done = attach(cli, space, ["prlimit", f"--memlock={limit}:{limit}", *plain])
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("limit", [12, 80])
def test_too_few_open_files_are_told(cli: Cli, space: Namespace, limit: int) -> None:
    """At the first map, and among the programs."""
    done = attach(cli, space, ["prlimit", f"--nofile={limit}"])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "Too many open files (EMFILE); raise the limit on open files: ulimit -n" in done.stderr
    assert empty(cli.bpffs)


@pytest.mark.parametrize("version", ["ours", "0123456789abcdef"])
def test_detach_of_everything_does_not_guess_what_it_cannot_read(
    cli: Cli, space: Namespace, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """By clsact nobody would know of the filters any more, once the pins are gone."""
    attach_in_process(["eth0"], bpffs=cli.bpffs, netns_name=space.name)
    if version != "ours":
        pins = Pins(cli.bpffs, load_abi().hash)
        pins.path.rename(pins.root / version)

    def refuse(*_: object) -> int:
        raise KernelError("cannot open a pin", errno.ENOMEM)

    with monkeypatch.context() as patch:
        patch.setattr(syscall, "open_pin", refuse)
        with pytest.raises(KernelError, match="cannot open a pin"):
            detach([], everything=True, bpffs=cli.bpffs)
    assert not empty(cli.bpffs)
    done = detach([], everything=True, bpffs=cli.bpffs)
    assert done.interfaces + done.versions == ["eth0" if version == "ours" else version]


def _memory_controller() -> tuple[Path, str] | None:
    """Where the memory cgroups are, and the file of a cgroup's limit: version 1's, or 2's."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options = line.split()[:4]
        if kind == "cgroup" and "memory" in options.split(","):
            return Path(place), "memory.limit_in_bytes"
        if kind == "cgroup2" and "memory" in Path(place, "cgroup.subtree_control").read_text():
            return Path(place), "memory.max"
    return None


@pytest.fixture
def limited() -> Iterator[list[str]]:
    """What runs a command in a cgroup that has a memory limit."""
    found = _memory_controller()
    if found is None:
        pytest.skip("there is no memory cgroup")
    cgroup = found[0] / f"xdpprobe-test-{os.getpid()}"
    try:
        cgroup.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error.strerror}")
    try:
        (cgroup / found[1]).write_text(str(LIMIT))
        yield ["sh", "-c", f'echo $$ > "{cgroup}/cgroup.procs" && exec "$@"', "sh"]
    finally:
        cgroup.rmdir()


def test_tables_beyond_the_cgroups_limit_are_refused(
    cli: Cli, space: Namespace, limited: list[str]
) -> None:
    done = attach(cli, space, limited, "--flows", TOO_MANY)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "xdpprobe: cannot load classify.bpf.o: Cannot allocate memory (ENOMEM); the tables do not"
        " fit into memory or the memory cgroup's limit: try a smaller --flows\n"
    )
    assert empty(cli.bpffs)
    done = attach(cli, space, limited)
    assert (done.returncode, done.stderr) == (0, "")
