# SPDX-License-Identifier: Apache-2.0
"""The internet of the lab as a table: which names exist, where, and how they answer.

Addresses are those that RFC 5737 and RFC 3849 set apart for documentation.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

KB = 1000
MB = 1000 * KB

NAME_SERVER = {4: "192.0.2.2", 6: "2001:db8:0:1::2"}
SERVER_PREFIX = {4: "203.0.113.0/24", 6: "2001:db8:2::/64"}
SSH_NAME = "ssh.github.com"

_FIRST = {4: IPv4Address("203.0.113.10"), 6: IPv6Address("2001:db8:2::10")}


@dataclass(frozen=True)
class Site:
    """A name that clients fetch from.

    scheme: "https" or "http"; tls: the one version its server speaks, "1.2" or "1.3" ("" for
    http); size: bytes of an answer's body; rate: bytes a second that a client takes it at, 0 for
    as fast as it goes.
    """

    name: str
    size: int
    scheme: str = "https"
    tls: str = "1.3"
    rate: int = 0

    @property
    def port(self) -> int:
        return 443 if self.scheme == "https" else 80


def _http(name: str, size: int) -> Site:
    return Site(name, size, scheme="http", tls="")


SITES = (
    Site("www.youtube.com", 60 * KB),
    Site("r3---sn-4g5e6nzs.googlevideo.com", 3 * MB, rate=900 * KB),
    Site("www.netflix.com", 30 * KB),
    Site("occ-0-2774-778.1.nflxso.net", 2 * MB, tls="1.2", rate=600 * KB),
    Site("www.facebook.com", 120 * KB),
    Site("scontent.xx.fbcdn.net", 300 * KB),
    Site("www.instagram.com", 250 * KB),
    Site("web.whatsapp.com", 15 * KB),
    Site("teams.microsoft.com", 90 * KB),
    Site("us04web.zoom.us", 200 * KB, tls="1.2"),
    Site("open.spotify.com", 400 * KB),
    Site("github.com", 80 * KB),
    Site("www.google.com", 25 * KB),
    Site("www.amazon.com", 150 * KB, tls="1.2"),
    Site("s3.amazonaws.com", 700 * KB, tls="1.2"),
    Site("x.com", 45 * KB),
    Site("www.tiktok.com", 600 * KB),
    Site("discord.com", 20 * KB),
    Site("slack.com", 35 * KB),
    Site("www.dropbox.com", 500 * KB),
    Site("store.steampowered.com", 350 * KB, tls="1.2"),
    Site("www.twitch.tv", 800 * KB),
    Site("en.wikipedia.org", 50 * KB),
    Site("www.linkedin.com", 70 * KB),
    Site("www.reddit.com", 110 * KB),
    Site("www.icloud.com", 40 * KB),
    Site("outlook.office.com", 65 * KB, tls="1.2"),
    Site("pypi.org", 180 * KB),
    Site("registry.npmjs.org", 95 * KB),
    Site("chatgpt.com", 10 * KB),
    Site("www.googletagmanager.com", 5 * KB),
    _http("deb.debian.org", 900 * KB),
    _http("download.windowsupdate.com", 1 * MB),
    _http("archive.ubuntu.com", 450 * KB),
)


def address(site: Site, version: int) -> str:
    """The site's IPv4 (4) or IPv6 (6) address."""
    return str(_FIRST[version] + SITES.index(site))


def ssh_address(version: int) -> str:
    """The address of the SSH server, which has a name but no site."""
    return str(_FIRST[version] + len(SITES))


def host_records() -> dict[str, tuple[str, str]]:
    """Name -> its IPv4 and IPv6 address, for all names of the lab."""
    records = {site.name: (address(site, 4), address(site, 6)) for site in SITES}
    return {**records, SSH_NAME: (ssh_address(4), ssh_address(6))}
