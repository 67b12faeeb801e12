# SPDX-License-Identifier: Apache-2.0
"""What a guest boots from: packages and the project, as squashfs; an initramfs.

    root image      the packages of tools/setup.sh with all they need, .venv, the project
    modules image   a kernel's modules
    initramfs       busybox and the few modules that it takes to mount the other two

Packages and .venv are this machine's own, or those of another architecture (foreign.py). The
project stands in the guest where it stands here, since .venv names its own place.
"""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import foreign
from architecture import NATIVE, Architecture
from debian import Apt
from kernels import Kernel

PROJECT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
READ = Path("/signatures.pickle")  # in a guest: for tests/shortcuts.py
# Beside what `make setup` installs.
_PACKAGES = {"busybox-static", "kmod", "procps"}
_BUILD = {"clang", "clang-format", "libbpf-dev", "linux-libc-dev"}
_LEFT_OUT = ("usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/info/")
_MERGED = ("bin", "sbin", "lib", "lib64")
_EARLY = ("virtio_pci", "virtio_blk", "squashfs", "overlay")
_OPENERS = {".xz": ["xz", "-dc"], ".zst": ["zstd", "-dcq"], ".gz": ["gzip", "-dc"]}


def _run(command: list[str], **more: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, check=True, capture_output=True, timeout=600, **more)  # type: ignore[call-overload, no-any-return]


def root_directory(work: Path, architecture: Architecture, apt: Apt) -> Path:
    """A directory with all that a guest sees, made anew. apt: where a foreign one comes from."""
    root = work / f"root-{architecture.debian}"
    shutil.rmtree(root, ignore_errors=True)
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "var/tmp"):
        (root / name).mkdir(parents=True)
    home = root / PROJECT.relative_to("/")
    home.mkdir(parents=True)
    _copy(_project_files(), PROJECT, home)
    _copy_signatures(root)
    if architecture == NATIVE:
        _copy(_package_files(), Path("/"), root)
        _copy([".venv"], PROJECT, home)
        _run(["ldconfig", "-r", str(root)])
    else:
        foreign.fill(root, PROJECT, sorted(_wanted()), architecture, apt)
    for name in ("group", "hosts", "nsswitch.conf", "passwd", "protocols", "services"):
        if Path("/etc", name).exists():
            shutil.copy(Path("/etc", name), root / "etc" / name)
    shutil.copy(HERE / "guest.sh", root / "guest.sh")
    return root


def _wanted() -> set[str]:
    listed = _run(["sed", "-n", '/^packages="/,/"$/p', str(PROJECT / "tools/setup.sh")]).stdout
    return {*listed.decode().partition('"')[2].rstrip('"\n').split(), *_PACKAGES}


def _package_files() -> list[str]:
    wanted = _wanted() - _BUILD
    essential = _run(["dpkg-query", "-W", "-f", "${Essential} ${Package}\n"]).stdout.decode()
    wanted |= {line[4:] for line in essential.splitlines() if line.startswith("yes ")}
    command = ["apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests"]
    command += ["--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", *sorted(wanted)]
    names = {line for line in _run(command).stdout.decode().splitlines() if line[:1].isalnum()}
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *sorted(names)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,  # some of the names are not installed
    )
    installed = [line.split()[1] for line in query.stdout.splitlines() if line.startswith("inst")]
    files = set()
    for line in _run(["dpkg", "-L", *installed]).stdout.decode().splitlines():
        path = Path(line)
        if not line.startswith("/") or (path.is_dir() and not path.is_symlink()):
            continue
        top, _, rest = line[1:].partition("/")
        name = f"usr/{top}/{rest}" if top in _MERGED and rest else line[1:]
        if name not in _MERGED and not name.startswith(_LEFT_OUT):
            files.add(name)
    files |= {_compiled(name) for name in files if name.endswith(".py")}
    return sorted(name for name in files if os.path.lexists(f"/{name}"))


def _compiled(source: str) -> str:
    """What Python makes of a module; packages do not list theirs."""
    return importlib.util.cache_from_source(source)


def _project_files() -> list[str]:
    tracked = (
        _run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=PROJECT)
        .stdout.decode()
        .split("\0")
    )
    made = [str(path.relative_to(PROJECT)) for path in (PROJECT / "xdpprobe/data").glob("*.o")]
    _compile_project()
    caches = {(PROJECT / name).parent / "__pycache__" for name in tracked if name.endswith(".py")}
    compiled = [str(c.relative_to(PROJECT)) for folder in caches for c in folder.glob("*.pyc")]
    names = [*tracked, *made, *compiled]
    return [name for name in names if (PROJECT / name).exists()]


def _copy_signatures(root: Path) -> None:
    """What becomes of the shipped signatures, where a guest looks for it: as read, and as match
    tables. It would take ten times as long to make them."""
    code = (
        "import pickle, sys\nfrom pathlib import Path\n"
        "from xdpprobe import abi, catalogue, signature_file\nfrom xdpprobe.patterns import cache\n"
        "known = catalogue.load()\n"
        "cache.tables_of(known.signatures, known.digest, abi.load_abi())\n"
        "files = [(path, path.read_bytes()) for path in known.files]\n"
        "read = {file: signature_file.parse(*file) for file in files}\n"
        "Path(sys.argv[1]).write_bytes(pickle.dumps(read))\n"
        "print(cache.directory())"
    )
    python, target = PROJECT / ".venv/bin/python", root / READ.relative_to("/")
    place = _run([str(python), "-c", code, str(target)], cwd=PROJECT).stdout.decode()
    source = Path(place.strip())
    target = root / source.relative_to("/")
    target.mkdir(mode=0o700, parents=True)
    for path in source.glob("*.tables"):
        shutil.copy(path, target / path.name)


def _compile_project() -> None:
    """Else each guest would do it, at a tenth of the speed; tests are pytest's to compile."""
    python, environment = str(PROJECT / ".venv/bin/python"), dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    _run([python, "-m", "compileall", "-q", "xdpprobe"], cwd=PROJECT, env=environment)
    collect = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only"]
    _run([python, *collect, "tests", "vm-test"], cwd=PROJECT, env=environment)


def _copy(names: list[str], source: Path, target: Path) -> None:
    """Copies files and whole directories, links as links."""
    listing = "\n".join(names).encode()
    packed = subprocess.Popen(
        ["tar", "-C", str(source), "-cf", "-", "-T", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    unpacked = subprocess.Popen(["tar", "-C", str(target), "-xf", "-"], stdin=packed.stdout)
    assert packed.stdin
    packed.stdin.write(listing)
    packed.stdin.close()
    if packed.wait(600) or unpacked.wait(600):
        raise RuntimeError(f"cannot copy {len(names)} files of {source}")


def modules_image(kernel: Kernel, work: Path) -> Path:
    """A kernel's modules; made once."""
    image = work / f"{kernel.release}.squashfs"
    return image if image.exists() else squashed(kernel.modules, image)


def squashed(directory: Path, image: Path) -> Path:
    """Packs a directory into an image."""
    part = image.with_suffix(".part")
    command = ["mksquashfs", str(directory), str(part), "-comp", "lz4", "-noappend", "-quiet"]
    _run([*command, "-no-progress"])
    part.rename(image)
    return image


def initramfs(kernel: Kernel, root: Path, work: Path) -> Path:
    """An initramfs that mounts the images and goes on with /guest.sh. root: has its busybox."""
    place = work / f"initramfs-{kernel.release}"
    shutil.rmtree(place, ignore_errors=True)
    (place / "bin").mkdir(parents=True)
    (place / "modules").mkdir()
    shutil.copy(root / "usr/bin/busybox", place / "bin/busybox")
    shutil.copy(HERE / "init.sh", place / "init")
    for number, module in enumerate(_early_modules(kernel)):
        name = f"{number:02}-{module.name.partition('.ko')[0]}.ko"
        opener = _OPENERS.get(module.suffix, ["cat"])
        (place / "modules" / name).write_bytes(_run([*opener, str(module)]).stdout)
    names = "\n".join(str(p.relative_to(place)) for p in sorted(place.rglob("*")))
    archive = _run(["cpio", "--create", "--format=newc"], cwd=place, input=names.encode()).stdout
    image = place.with_name(f"{place.name}.cpio")
    image.write_bytes(archive)
    return image


def _early_modules(kernel: Kernel) -> list[Path]:
    base = kernel.modules.parent.parent.parent
    found: dict[Path, None] = {}
    for name in _EARLY:
        command = ["modprobe", "-d", str(base), "-S", kernel.release, "--show-depends", name]
        for line in _run(command).stdout.decode().splitlines():
            if line.startswith("insmod"):
                found[Path(line.split()[1])] = None
    return list(found)
