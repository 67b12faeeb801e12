# SPDX-License-Identifier: Apache-2.0
"""The public suffix list, for `--privacy cut`: where a registered domain begins.

The list is the distribution's file (package `publicsuffix` on Debian and Ubuntu, on Fedora
`publicsuffix-list`): text, kept current by system updates, without a Python package around it, and
outside this project, so that it cannot grow old in here. It is read only when names are to be cut.

Only the list's ICANN section counts. Its second section holds domains whose owners let customers
have names below them; with those, user.github.io would leave the kernel whole, and cutting is
there to tell less about who is behind a name.

Format and algorithm: publicsuffix.org/list, "Format" and "Algorithm".
"""

from collections.abc import Iterator
from pathlib import Path

from xdpprobe.errors import DataError, StateError
from xdpprobe.rules import PublicSuffix

SYSTEM_LIST = Path("/usr/share/publicsuffix/public_suffix_list.dat")
_BEGIN, _END = "===BEGIN ICANN DOMAINS===", "===END ICANN DOMAINS==="


def load(path: Path = SYSTEM_LIST) -> dict[str, PublicSuffix]:
    """Node -> suffix, for `rules.compile_rules`.

    Raises StateError where the list is not installed, DataError for one that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise StateError(
            f"the public suffix list is missing: {path}",
            "install the package `publicsuffix` (Fedora: publicsuffix-list), or use --privacy hash",
        ) from error
    except OSError as error:
        raise DataError(str(path), error.strerror or "cannot be read") from error
    except UnicodeDecodeError as error:
        raise DataError(str(path), "is not UTF-8", "install the list again") from error
    return parse(text, str(path))


def parse(text: str, where: str = "public suffix list") -> dict[str, PublicSuffix]:
    """Node -> suffix from the text of a list; `where` names it in a DataError."""
    suffixes: dict[str, PublicSuffix] = {}
    wildcards: dict[str, PublicSuffix] = {}
    for number, rule in _icann_rules(text):
        try:
            name = _ascii(rule.removeprefix("!").removeprefix("*."))
        except UnicodeError as error:
            raise DataError(f"{where}:{number}", f"no domain name: {rule}") from error
        if rule.startswith("!"):
            # An exception to "*.ck" says that the suffix of www.ck is ck, one label shorter.
            suffixes[name] = PublicSuffix(len(name.partition(".")[2]))
        elif rule.startswith("*."):
            wildcards[name] = PublicSuffix(len(name), wildcard=True)
        else:
            suffixes[name] = PublicSuffix(len(name))
    if not suffixes:
        raise DataError(where, "holds no ICANN domains", "install the list again")
    return suffixes | wildcards


def _icann_rules(text: str) -> Iterator[tuple[int, str]]:
    """(line number, rule) of the ICANN section; a rule ends at the first white space."""
    inside = False
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("//"):
            inside = (inside or _BEGIN in line) and _END not in line
        elif inside and (words := line.split()):
            yield number, words[0].lower()


def _ascii(name: str) -> str:
    """The name as it goes over the wire; raises UnicodeError."""
    return name if name.isascii() else name.encode("idna").decode("ascii")
