# SPDX-License-Identifier: Apache-2.0
"""Signatures that a test made up: read as any others, but without most of the shipped ones.

Labels and name rules are the shipped files' too. A test that needs no more patterns than its own
is spared the making of all the others' tables, which takes a guest without KVM ten seconds.
"""

from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from xdpprobe import catalogue
from xdpprobe.catalogue import Catalogue
from xdpprobe.rules import NameRule


def made_up(
    text: str, rules: Sequence[NameRule] | None = None, shipped: Container[str] = ()
) -> Catalogue:
    """What the signature file `text` says, and what is shipped for the protocols `shipped`.

    rules: of names, in place of those that are shipped. The text may say none of its own.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder, "made.toml")
        file.write_text(text)
        whole = catalogue.load([file])
    wanted = (one for one in whole.signatures if one.file.path == file or one.protocol in shipped)
    known = catalogue.load().rules
    assert len(whole.rules) == len(known)
    known = known if rules is None else list(rules)
    return replace(whole, signatures=tuple(wanted), rules=known, prefixes={})
