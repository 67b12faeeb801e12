# SPDX-License-Identifier: Apache-2.0
"""Terms of the filter language about TLS."""

import numpy as np

from xdpprobe import tls
from xdpprobe.filter_terms import Columns, Term, parts
from xdpprobe.flows import Mask

_YES = {"yes": True, "no": False}


def version_term(value: str) -> Term:
    """tls: the version, of flows whose TLS server's answer was seen."""
    numbers = {text: number for number, text in tls.VERSIONS.items()}
    chosen = parts(value.lower())
    if not all(part in numbers for part in chosen):
        raise ValueError(", ".join(numbers))
    wanted = [numbers[part] for part in chosen]
    return Term(lambda c: np.isin(c.cold("tls_version"), wanted))


def flag_term(name: str, value: str) -> Term:
    """resumed, sni-mismatch: yes or no; `name` is that of enum tls_flag."""
    wanted = _YES.get(value.lower())
    if wanted is None:
        raise ValueError("yes or no")

    def mask(c: Columns) -> Mask:
        found: Mask = ((c.cold("tls_flags") & c.snapshot.enums["tls_flag"][name]) != 0) == wanted
        return found

    return Term(mask)
