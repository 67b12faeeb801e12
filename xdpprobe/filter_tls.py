# SPDX-License-Identifier: Apache-2.0
"""Terms of the filter language about TLS."""

import re
from collections.abc import Callable

import numpy as np

from xdpprobe import tls
from xdpprobe.filter_terms import Columns, Term, parts, pattern
from xdpprobe.flows import Mask
from xdpprobe.snapshot import pick
from xdpprobe.tls_facts import Facts, tls_facts

ECH = ("real", "grease", "none")


def _facts(c: Columns) -> list[Facts]:
    return tls_facts(c.snapshot, pick(c.snapshot.hot, c.rows), pick(c.snapshot.cold, c.rows))


def _text_term(field: Callable[[Facts], str | None], value: str, regex: bool) -> Term:
    """A flow without such a text never matches."""
    matches = pattern(value, regex)

    def mask(c: Columns) -> Mask:
        found = [field(facts) for facts in _facts(c)]
        hit = {text for text in set(found) if text is not None and matches(text)}
        return np.array([text in hit for text in found], dtype=np.bool_)

    return Term(mask)


def ja4_term(value: str, regex: bool) -> Term:
    """ja4: the fingerprint of the client's hello."""
    return _text_term(lambda facts: facts.ja4, value, regex)


def alpn_term(value: str, regex: bool) -> Term:
    """alpn: the first protocol that the client's hello offers."""
    return _text_term(lambda facts: facts.alpn, value, regex)


def ech_term(value: str) -> Term:
    """ech: real, grease or none."""
    wanted = parts(value.lower())
    if not all(part in ECH for part in wanted):
        raise ValueError("real, grease or none")
    return Term(
        lambda c: np.array([(facts.ech or "none") in wanted for facts in _facts(c)], dtype=np.bool_)
    )


_YES = {"yes": True, "no": False}
_NUMBER = re.compile("0x[0-9a-f]{1,4}")


def version_term(value: str) -> Term:
    """tls: the version, of flows whose TLS server's answer was seen."""
    wanted = [_version(part) for part in parts(value.lower())]
    return Term(lambda c: np.isin(c.cold("tls_version"), wanted))


def _version(text: str) -> int:
    """Its number on the wire; 0 there is none: it stands for an answer that was not seen."""
    numbers = {shown: number for number, shown in tls.VERSIONS.items()}
    number = numbers.get(text) or (int(text, 16) if _NUMBER.fullmatch(text) else 0)
    if not number:
        raise ValueError(", ".join(numbers) + ", or a number such as 0x7f1c")
    return number


def resumed_term(value: str) -> Term:
    """resumed: yes or no, of flows whose TLS server's answer was seen."""
    flagged = _flagged("TLS_RESUMED", value)
    return Term(lambda c: flagged(c) & (c.cold("tls_version") != 0))


def mismatch_term(value: str) -> Term:
    """sni-mismatch: yes; no, of all others."""
    return Term(_flagged("TLS_SNI_MISMATCH", value))


def _flagged(name: str, value: str) -> Callable[[Columns], Mask]:
    """Whether the bit of enum tls_flag is as yes or no says."""
    wanted = _YES.get(value.lower())
    if wanted is None:
        raise ValueError("yes or no")

    def mask(c: Columns) -> Mask:
        found: Mask = ((c.cold("tls_flags") & c.snapshot.enums["tls_flag"][name]) != 0) == wanted
        return found

    return mask
