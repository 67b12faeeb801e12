# SPDX-License-Identifier: Apache-2.0
"""The shipped signatures: do they say what they mean, and do numbers keep their meaning?

signature_ids.txt lists every id that was ever given, with its name: ids stand in counters of
running probes and in what users store, so that none may come to mean something else.
"""

import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.match_tables import Layouts
from xdpprobe import catalogue, signature_values
from xdpprobe.abi import load_abi
from xdpprobe.patterns import check
from xdpprobe.patterns.compiler import compile_signatures
from xdpprobe.rules import RuleIndex

CATALOGUE = catalogue.load()
INDEX = RuleIndex(CATALOGUE.rules)
GIVEN = Path(__file__).with_name("signature_ids.txt")
CORPUS = Path(__file__).parents[3] / "shared" / "corpus"


def app_of(name: str) -> str:
    label = CATALOGUE.labels.get(INDEX.match(name)[0])
    return label.name if label else ""


@pytest.mark.parametrize(
    ("name", "app"),
    [
        ("www.youtube.com", "youtube"),
        ("rr5---sn-4g5e6nz7.googlevideo.com", "youtube"),
        ("upload.youtube.com", "youtube-upload"),
        ("music.youtube.com", "youtube-music"),
        ("www.google.com", "google"),
        ("www.google.co.uk", "google"),
        ("mail.google.com", "gmail"),
        ("docs.google.com", "google-docs"),
        ("drive.google.com", "google-drive"),
        ("meet.google.com", "google-meet"),
        ("fonts.googleapis.com", "google-services"),
        ("storage.googleapis.com", "google-cloud"),
        ("dns.google", "doh-dot"),
        ("api-global.netflix.com", "netflix"),
        ("ipv4-c001-fra001-ix.1.oca.nflxvideo.net", "netflix"),
        ("web.whatsapp.com", "whatsapp"),
        ("media-fra3-1.cdn.whatsapp.net", "whatsapp-files"),
        ("scontent-fra5-1.xx.fbcdn.net", "facebook"),
        ("edge-mqtt.facebook.com", "facebook-messenger"),
        ("scontent.cdninstagram.com", "instagram"),
        ("www.icloud.com", "apple-icloud"),
        ("1-courier.push.apple.com", "apple-push"),
        ("swcdn.apple.com", "apple-update"),
        ("www.apple.com", "apple"),
        ("teams.microsoft.com", "teams"),
        ("outlook.office365.com", "outlook"),
        ("contoso.sharepoint.com", "microsoft-365"),
        ("www.microsoft.com", "microsoft"),
        ("tlu.dl.delivery.mp.microsoft.com", "windows-update"),
        ("fe3cr.delivery.mp.microsoft.com", "windows-update"),
        ("account.blob.core.windows.net", "azure"),
        ("us02web.zoom.us", "zoom"),
        ("bucket.s3.eu-central-1.amazonaws.com", "amazon-aws"),
        ("d111111abcdef8.cloudfront.net", "amazon-aws"),
        ("www.amazon.de", "amazon"),
        ("avs-alexa-eu.amazon.com", "amazon-alexa"),
        ("raw.githubusercontent.com", "github"),
        ("files.pythonhosted.org", "pypi"),
        ("registry.npmjs.org", "npm"),
        ("deb.debian.org", "debian"),
        ("security.ubuntu.com", "ubuntu"),
        ("cdn.jsdelivr.net", "jsdelivr"),
        ("store.steampowered.com", "steam"),
        ("gateway.discord.gg", "discord"),
        ("open.spotify.com", "spotify"),
        ("i.scdn.co", "spotify"),
        ("static.licdn.com", "linkedin"),
        ("pbs.twimg.com", "twitter"),
        ("v16-webapp.tiktok.com", "tiktok"),
        ("en.wikipedia.org", "wikipedia"),
        ("upload.wikimedia.org", "wikipedia"),
        ("chatgpt.com", "chatgpt"),
        ("api.openai.com", "openai"),
        ("claude.ai", "claude"),
        ("api.anthropic.com", "anthropic"),
        ("speed.cloudflare.com", "cloudflare"),
        ("example.global.ssl.fastly.net", "fastly"),
        ("a1.g.akamai.net", "akamai"),
        ("mc.yandex.ru", "yandex-metrika"),
        ("ocsp.digicert.com", "ocsp"),
        ("notgoogle.com", ""),
        ("google.com.example.net", ""),
    ],
)
def test_well_known_names(name: str, app: str) -> None:
    assert app_of(name) == app


def test_enough_of_them() -> None:
    kinds = Counter(label.kind for label in CATALOGUE.labels.values())
    assert kinds["application"] >= 350


def test_ids_keep_their_meaning() -> None:
    given: dict[int, str] = {}
    for line in GIVEN.read_text().splitlines():
        number, _, name = line.partition(" ")
        assert int(number) not in given, f"{GIVEN.name} gives {number} twice"
        given[int(number)] = name
    now = {number: label.name for number, label in CATALOGUE.labels.items()}
    changed = {number: name for number, name in now.items() if given.get(number, name) != name}
    assert not changed, f"ids with another meaning than {GIVEN.name} has"
    missing = [f"{number} {name}" for number, name in now.items() if number not in given]
    assert not missing, f"add these lines to {GIVEN.name}"


def test_every_file_keeps_to_its_range() -> None:
    ranges: dict[int, str] = {}
    for path in CATALOGUE.files:
        found = re.search(r"^# .*\bIds (\d+) to (\d+), never reused", path.read_text(), re.M)
        assert found, f"{path.name} does not say which ids are its own"
        for number in range(int(found[1]), int(found[2]) + 1):
            assert number not in ranges, f"{path.name} and {ranges[number]} share id {number}"
            ranges[number] = path.name
    for entry in CATALOGUE.entries.values():
        assert ranges.get(entry.id) == entry.file.path.name, entry.where("id")
    assert max(ranges) < 7168, "ids from 7168 are the users'"


def test_no_rule_says_what_a_shorter_one_says() -> None:
    suffixes = {rule.name: rule.app for rule in CATALOGUE.rules if not rule.exact}
    for rule in CATALOGUE.rules:
        labels = rule.name.split(".")
        first = 0 if rule.exact else 1
        above = (".".join(labels[at:]) for at in range(first, len(labels)))
        shorter = next((suffixes[name] for name in above if name in suffixes), 0)
        assert shorter != rule.app, f"{rule.name} is redundant"


def test_categories_are_all_used() -> None:
    assert {label.category for label in CATALOGUE.labels.values()} == signature_values.CATEGORIES


def test_what_the_kernel_has_room_for() -> None:
    label_info = load_abi().dtype("label_info")
    for label in CATALOGUE.labels.values():
        assert len(label.name) < label_info["name"].itemsize
        assert len(label.category) < label_info["category"].itemsize


def test_protocols_of_the_data_plane() -> None:
    catalogue.verify_protocols(CATALOGUE.entries, load_abi().enums["protocol"])
    assert CATALOGUE.labels[CATALOGUE.l4[1]].name == "icmp"
    assert CATALOGUE.labels[CATALOGUE.l4[50]].name == "ipsec"


def test_patterns_say_where_they_are_known_from() -> None:
    assert [one.where() for one in CATALOGUE.signatures if not one.source] == []


def test_patterns_leave_no_doubt() -> None:
    began = time.process_time()
    compiled = compile_signatures(CATALOGUE.signatures, Layouts())
    assert time.process_time() - began < 5
    assert check.doubts(compiled) + check.text_doubts(CATALOGUE.signatures) == []
    assert check.chance(compiled) < 1e-8


# Labels that say what was transferred, where ours say from whom.
CONTENT = {"MpegDash", "HLS", "JSON-RPC", "SOAP", "WebDAV", "IPP", "FbookReelStory", "Gnutella"}


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of labelled captures is not here")
def test_against_the_corpus() -> None:
    aliases = json.loads((CORPUS / "aliases.json").read_text())

    def plain(name: str) -> str:
        name = re.sub(r"[^a-z0-9]", "", name.lower())
        return str(aliases.get(name, name))

    tally: Counter[str] = Counter()
    for line in (CORPUS / "labels.jsonl").read_text().splitlines():
        flow = json.loads(line)
        protocol, _, wanted = flow["label"].partition(".")
        if not wanted or not flow.get("host") or protocol not in ("TLS", "QUIC", "HTTP", "DNS"):
            continue
        app = app_of(flow["host"])
        tally["all"] += 1
        if plain(app) == plain(wanted):
            tally["right"] += 1
        elif app and wanted not in CONTENT:
            tally["wrong"] += 1
    assert tally["right"] >= 0.9 * tally["all"]
    assert tally["wrong"] <= 0.02 * tally["all"]
