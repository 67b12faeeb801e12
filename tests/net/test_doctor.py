# SPDX-License-Identifier: Apache-2.0
"""`doctor` reports what is in the way as a finding, with the command that helps, and goes on."""

import json
import subprocess
from pathlib import Path

from tests.net.conftest import Cli, Veth
from tests.net.test_messages import copied, halve
from xdpprobe import libbpf
from xdpprobe.abi import load_abi
from xdpprobe.lab.namespaces import Network
from xdpprobe.pins import Pins


def fix(cli: Cli, subject: str, grade: str, *arguments: str) -> str:
    """What doctor proposes for its only finding of that subject and grade."""
    done = cli("doctor", "--json", *arguments, check=False)
    report = json.loads(done.stdout)
    assert (done.stderr, done.returncode) == ("", 0 if report["ready"] else 1)
    (found,) = (f for f in report["findings"] if (f["subject"], f["grade"]) == (subject, grade))
    return str(found["fix"])


def test_doctor_proposes_what_works_in_the_namespace(cli: Cli, network: Network) -> None:
    space = network.add("a b")
    space.run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
    path = f"/run/netns/{space.name}"
    for name, interface in ((space.name, "v0"), (path, "v1")):
        command = fix(cli, interface, "warning", interface, "--netns", name)
        subprocess.run(["bash", "-c", command], check=True, timeout=10)
        report = cli.json("doctor", interface, "--netns", name)
        grades = [f["grade"] for f in report["findings"] if f["subject"] == interface]
        assert grades == ["ok"]


def test_doctor_reports_a_probe_of_another_version(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left)
    pins = Pins(cli.bpffs, load_abi().hash)
    pins.path.rename(pins.root / "0123456789abcdef")
    said = fix(cli, "probe", "missing", "eth0", "--netns", veth.left.namespace.name)
    assert "0123456789abcdef): removed" in copied(cli, said).stdout


def test_doctor_reports_an_open_directory(cli: Cli) -> None:
    root = cli.bpffs / "xdpprobe"
    root.mkdir()
    root.chmod(0o777)
    assert f"rm -rf {root}" in fix(cli, "probe", "missing")


def test_doctor_reports_half_a_probe(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left)
    halve(Pins(cli.bpffs, load_abi().hash), "slots")
    said = fix(cli, "probe", "warning", "eth0", "--netns", veth.left.namespace.name)
    assert copied(cli, said).returncode == 0
    assert not (cli.bpffs / "xdpprobe").exists()


def test_doctor_without_libbpf_says_so_and_what_it_left_out(cli: Cli, veth: Veth) -> None:
    libbpf.library()  # so that it is among this process's files
    library = next(
        line.rpartition(" ")[2]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "/libbpf.so.1" in line
    )
    # In a mount namespace of its own, where an empty file lies over the library.
    line = f'mount --bind /dev/null "{library}" && exec "$@"'
    argv = cli.argv("doctor", "--json", "eth0", "--netns", veth.left.namespace.name)
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", line, "bash", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    found = {f["subject"]: f for f in json.loads(done.stdout)["findings"]}
    assert (found["libbpf"]["grade"], found["libbpf"]["fix"]) == ("missing", "apt install libbpf1")
    assert "not checked" in found["BPF"]["text"]
    assert found["eth0"]["grade"] == "ok"
