# SPDX-License-Identifier: Apache-2.0
"""A real client's hello, from the wire to what `flows` says of it."""

import json
import re

from tests.net.conftest import Cli
from xdpprobe.lab.lab import Lab

NAME = "www.netflix.com"


def test_flows_tell_the_fingerprint_and_alpn(lab: Lab, lab_cli: Cli) -> None:
    lab_cli("attach", "--netns", lab.router.name, lab.interface)
    url = f"https://{NAME}/1"
    lab.clients[0].run("curl", "-s", "--cacert", str(lab.ca), "-o", "/dev/null", url)
    shown = lab_cli("flows", "--filter", "ja4:t1* ech:none", "--json").stdout
    (flow,) = json.loads(shown)["flows"]
    assert flow["host"] == NAME
    assert re.fullmatch(r"t1[23]d\d{4}[0-9a-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}", flow["ja4"])
    assert flow["alpn"] in ("h2", "http/1.1")
    again = lab_cli("flows", "--filter", f"ja4:{flow['ja4']} alpn:{flow['alpn']}", "--json").stdout
    assert len(json.loads(again)["flows"]) == 1
    assert json.loads(lab_cli("flows", "--filter", "ech:real", "--json").stdout)["flows"] == []
    lab_cli("detach", "--all")
