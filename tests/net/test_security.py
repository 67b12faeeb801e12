# SPDX-License-Identifier: Apache-2.0
"""What other users of the machine cannot get at: pins, tables, the hash's seed."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.conftest import Cli, Veth
from tests.net.users import NEEDED, OTHER_UID, REPOSITORY, UID, User, ordinary, setpriv
from xdpprobe import syscall
from xdpprobe.abi import load_abi
from xdpprobe.attach import attach
from xdpprobe.detach import detach
from xdpprobe.errors import StateError
from xdpprobe.instance import Instance
from xdpprobe.lab.namespaces import Network
from xdpprobe.pins import Pins

SEED_BYTES = 16


@pytest.fixture
def user(network: Network, veth: Veth) -> Iterator[User]:
    """An ordinary user in the left namespace, who detaches at the end."""
    user = ordinary(network, veth.left.namespace)
    yield user
    user.run("detach", "--all")


def pinned(root: Path) -> dict[Path, tuple[int, int]]:
    """Everything below a directory, itself too -> (mode, owner)."""
    found = {}
    for path in (root, *root.rglob("*")):
        state = path.lstat()
        found[path] = (state.st_mode & 0o7777, state.st_uid)
    return found


def assert_private(bpffs: Path, owner: int) -> None:
    """Everything below is its owner's alone."""
    found = pinned(bpffs / "xdpprobe")
    assert len(found) > 20
    for path, (mode, uid) in found.items():
        assert (mode, uid) == (0o700 if path.is_dir() else 0o600, owner), path


def test_pins_are_for_root_alone(cli: Cli, veth: Veth) -> None:
    before = os.umask(0)
    try:
        attach(["eth0"], bpffs=cli.bpffs, netns_name=veth.right.namespace.name)
    finally:
        os.umask(before)
    assert_private(cli.bpffs, 0)


OPEN = """
import sys
from pathlib import Path
from xdpprobe import syscall
from xdpprobe.errors import ProbeError
for opened, what in ((syscall.open_pin, Path(sys.argv[1])), (syscall.open_map, int(sys.argv[2]))):
    try:
        opened(what)
        print("opened")
    except ProbeError as error:
        print(error.code)
"""


def test_another_user_reads_nothing(user: User) -> None:
    """Not even with the three capabilities, and where the directories above let everybody pass."""
    assert user.run("attach", "eth0").returncode == 0
    assert_private(user.cli.bpffs, UID)
    user.cli.bpffs.chmod(0o755)
    pins = Pins(user.cli.bpffs, load_abi().hash)
    fd = syscall.open_pin(pins.map("seed"))
    number = syscall.map_info(fd).id
    os.close(fd)
    for uid, ends in ((OTHER_UID, [errno.EACCES, errno.EPERM]), (UID, ["opened", errno.EPERM])):
        argv = [sys.executable, "-c", OPEN, str(pins.map("seed")), str(number)]
        done = subprocess.run(
            [*setpriv(uid, NEEDED), *argv],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=REPOSITORY,
        )
        assert done.stdout.split() == [str(end) for end in ends], done.stderr
    for arguments in (("status",), ("dump",), ("detach", "--all")):
        assert f"{user.cli.bpffs}/xdpprobe" in user.refused(*arguments, uid=OTHER_UID)
    assert user.run("status").returncode == 0


def seed(bpffs: Path) -> bytes:
    """The seed of the flow table that is pinned there."""
    with Instance(Pins(bpffs, load_abi().hash), load_abi()) as instance:
        value = syscall.lookup(instance.map_fd("seed"), 0, SEED_BYTES)
    assert value is not None
    return value


def test_every_table_has_a_seed_of_its_own(cli: Cli, veth: Veth) -> None:
    seeds = []
    small = {"flows": 4096, "names": 1024}
    for _ in range(2):
        attach(["eth0"], bpffs=cli.bpffs, netns_name=veth.left.namespace.name, options=small)
        seeds.append(seed(cli.bpffs))
        # The code of an update uses the table's seed: flows that are in it are found again.
        attach(["eth0"], bpffs=cli.bpffs, netns_name=veth.left.namespace.name)
        assert seed(cli.bpffs) == seeds[-1]
        detach([], everything=True, bpffs=cli.bpffs)
    assert len(set(seeds)) == 2
    assert all(len(set(value)) > 4 for value in seeds)


def test_a_directory_that_another_user_was_quicker_to_make_is_refused(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the making, where the mount lets anybody make files."""
    make = Pins.make_directory

    def outrun(pins: Pins, path: Path) -> None:
        make(pins, path)
        os.chown(path, UID, UID)

    monkeypatch.setattr(Pins, "make_directory", outrun)
    pins = Pins(cli.bpffs, load_abi().hash)
    with pytest.raises(StateError, match="cannot be trusted"), pins.lock():
        pass
    (cli.bpffs / "xdpprobe").rmdir()
