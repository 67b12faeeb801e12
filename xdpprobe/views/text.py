# SPDX-License-Identifier: Apache-2.0
"""Numbers and names in few columns."""

from collections.abc import Sequence

_STEPS = "▁▂▃▄▅▆▇█"


def quantity(value: float) -> str:
    """A number in at most five columns, three digits and a power of 1000: 999, 12.3k, 4.56M."""
    if value < 0:
        return "-" + quantity(-value)
    if value < 999.5:
        return str(round(value))
    for suffix in "kMGTPE":
        value /= 1000
        if value < 9.995:
            return f"{value:.2f}{suffix}"
        if value < 99.95:
            return f"{value:.1f}{suffix}"
        if value < 999.5:
            return f"{value:.0f}{suffix}"
    return "huge"


def rate(octets: float, bits: bool) -> str:
    """Bytes a second as bits or bytes a second, without the unit."""
    return quantity(octets * 8 if bits else octets)


def percent(part: float, whole: float) -> str:
    """A share in at most four columns; nothing where there is no whole."""
    if whole <= 0:
        return ""
    share = 100 * part / whole
    return f"{share:.0f}%" if share >= 9.95 else f"{share:.1f}%"


def span(seconds: float) -> str:
    """A time in at most four columns: 0.3s, 45s, 17m, 23h, 120d."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    for unit, size, limit in (("s", 1, 99.5), ("m", 60, 99.5), ("h", 3600, 47.5)):
        if seconds < limit * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{min(seconds / 86400, 999):.0f}d"


def sparkline(values: Sequence[float], width: int) -> str:
    """The last `width` values as bars, the greatest of them the highest; right-aligned."""
    recent = list(values)[-width:] if width > 0 else []
    top = max(recent, default=0.0)
    bars = "".join(
        " " if value <= 0 else _STEPS[min(int(value / top * len(_STEPS)), len(_STEPS) - 1)]
        for value in recent
    )
    return bars.rjust(width)


def endpoint(address: str, port: int) -> str:
    """An address with its port; IPv6 in brackets (RFC 3986, 3.2.2); no port where there is none."""
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
