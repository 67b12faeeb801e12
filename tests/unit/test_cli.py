# SPDX-License-Identifier: Apache-2.0
"""The command line itself: commands found, mistakes in one line, pipes that close."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xdpprobe import cli
from xdpprobe.version import VERSION

COMMAND = [sys.executable, "-m", "xdpprobe"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"xdpprobe {VERSION}\n"


OFFLINE = ("bench", "completion", "demo", "replay")  # what needs no probe


@pytest.mark.parametrize("command", cli.command_names())
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = run(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "example" in done.stdout
    assert f"xdpprobe {command}" in done.stdout
    assert ("--bpffs" in done.stdout) == (command not in OFFLINE)


def test_help_lists_every_command() -> None:
    text = run("--help").stdout
    for command in cli.command_names():
        assert f"\n    {command}" in text


def test_without_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["atach", "eth0"], ["attach"], ["status", "--yaml"], ["--bpffs"], ["detach", "-x"]],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("xdpprobe: ")
    assert said.err.count("\n") == 1
    assert "--help" in said.err


@pytest.mark.parametrize("other", ["--json", "--follow", "--follow --json"])
def test_a_table_of_tls_is_one(capsys: pytest.CaptureFixture[str], other: str) -> None:
    assert cli.main(["flows", "--tls", *other.split()]) == 2
    assert "--tls" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--bpffs", "/nowhere/at/all", "status"],
        ["status", "--bpffs", "/nowhere/at/all"],
        ["--bpffs", "/somewhere", "status", "--bpffs=/nowhere/at/all"],
    ],
)
def test_bpffs_before_and_after(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert cli.main(arguments) == 1
    assert "/nowhere/at/all" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "--bpffs /a signatures load x.toml",
        "signatures --bpffs /a load x.toml",
        "signatures load x.toml --bpffs /a",
        "--bpffs /b signatures --bpffs /c load --bpffs=/a x.toml",
    ],
)
def test_bpffs_before_and_after_a_verb(line: str) -> None:
    args = cli.build_parser().parse_args(line.split())
    assert (args.bpffs, args.paths) == (Path("/a"), [Path("x.toml")])


@pytest.mark.parametrize(
    "line",
    [
        "signatures --bpffs /a check",
        "signatures --bpffs=/a list",
        "signatures --bpffs /a match x.com",
        "--bpffs /a signatures check",
        "--bpffs=/sys/fs/bpf signatures list",
        "--bpffs /a bench",
        "--bpffs /a demo",
        "--bpffs /a completion bash",
        "--bpffs /a replay x.pcap",
    ],
)
def test_bpffs_before_what_asks_no_probe_is_refused(
    capsys: pytest.CaptureFixture[str], line: str
) -> None:
    assert cli.main(line.split()) == 2
    assert capsys.readouterr().err == (
        "xdpprobe: --bpffs has no effect there: no probe is asked; leave it out\n"
    )


def test_a_pipe_that_closes_is_no_error() -> None:
    line = " ".join([*COMMAND, "completion", "bash"])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line} | head -c 1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments", [("signatures", "list"), ("signatures", "list", "--json"), ("completion", "bash")]
)
def test_a_full_disk_behind_the_output_is_one_line(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    message = "xdpprobe: cannot write the output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, message)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        ("--version", 0, f"xdpprobe {VERSION}\n", ""),
        ("signatures match x.com", 0, "x.com: twitter (social), by x.com\n", ""),
        ("attach --flows 1 eth0", 2, "", "xdpprobe: --flows"),
    ],
)
def test_a_closed_stream_is_as_dev_null(
    closed: str, arguments: str, code: int, out: str, err: str
) -> None:
    line = f"{' '.join(COMMAND)} {arguments} {closed}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code
    assert done.stdout == ("" if ">&-" in closed.replace("2>&-", "") else out)
    assert done.stderr.startswith("" if "2>&-" in closed else err)
    assert done.stderr.count("\n") == (1 if err and "2>&-" not in closed else 0)


@pytest.mark.parametrize("stream", ["2</dev/null", "2>/dev/full"])
def test_an_error_that_cannot_be_written_keeps_its_exit_code(stream: str) -> None:
    line = f"{' '.join(COMMAND)} nonsense {stream}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


ASCII_ONLY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_what_the_locale_lacks_is_a_question_mark() -> None:
    arguments = [*COMMAND, "signatures", "list", "--filter", "sipgate"]
    done = subprocess.run(
        arguments,
        capture_output=True,
        env=os.environ | ASCII_ONLY | {"COLUMNS": "60"},
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"sipgate.de" in done.stdout
    assert b"?" in done.stdout


@pytest.mark.parametrize("locale", [{}, ASCII_ONLY])
@pytest.mark.parametrize(
    "arguments",
    [
        [b"signatures", b"check", b"%s"],
        [b"replay", b"%s"],
        [b"status", b"--bpffs", b"%s"],
        [b"detach", b"--netns", b"%s", b"eth0"],
        [b"signatures", b"check", b"%s", b"%s.toml"],
    ],
)
def test_a_name_of_any_bytes_is_shown_in_one_line(
    tmp_path: Path, locale: dict[str, str], arguments: list[bytes]
) -> None:
    name = os.fsencode(tmp_path) + b"/\xff"
    Path(os.fsdecode(name + b".toml")).touch()
    done = subprocess.run(
        [*COMMAND, *(word.replace(b"%s", name) for word in arguments)],
        capture_output=True,
        env=os.environ | locale,
        timeout=60,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert done.stderr.startswith(b"xdpprobe: ")
    assert done.stderr.count(b"\n") == 1
    assert b"/\\xff" in done.stderr


def test_a_signature_file_may_have_a_name_of_any_bytes(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.toml"
    Path(os.fsdecode(path)).touch()
    done = subprocess.run(
        [*COMMAND, "signatures", "check", path], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_the_system_refuses_is_one_line_that_names_it() -> None:
    path = "x" * 300
    done = run("signatures", "check", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"xdpprobe: {path}: File name too long\n"


def test_interrupt_is_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupted)
    assert cli.main(["status"]) == 130
    assert capsys.readouterr().err == ""


# A Ctrl-C that `main` does not handle: a second one while it handles the first, one while modules
# are still read, and one when Python calls what is registered for its exit.
SECOND = {
    "in main": "cli.main = twice",
    "while importing": "del sys.modules['xdpprobe.cli']; sys.meta_path.insert(0, Finder())",
    "at exit": "cli.run = lambda _: interrupt(); atexit.register(interrupt)",
}
DRIVER = """
import atexit, signal, sys
from xdpprobe import __main__, cli
interrupt = lambda: signal.raise_signal(signal.SIGINT)
class Finder:
    def find_spec(self, *_):
        interrupt()
def twice():
    try:
        interrupt()
    except KeyboardInterrupt:
        interrupt()
"""


@pytest.mark.parametrize("when", SECOND)
def test_a_second_interrupt_is_silent_too(when: str) -> None:
    code = f"{DRIVER}\n{SECOND[when]}\nsys.exit(__main__.entry())"
    done = subprocess.run(
        [sys.executable, "-c", code, "status"], capture_output=True, timeout=60, check=False
    )
    assert done.returncode in (130, -signal.SIGINT)
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_the_commands(shell: str) -> None:
    script = run("completion", shell).stdout
    for word in ("attach", "--bpffs", "--direction"):
        assert word.removeprefix("--") in script


def test_bash_takes_the_completion_script() -> None:
    script = run("completion", "bash").stdout
    done = subprocess.run(
        ["bash", "-n"], input=script, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
