# SPDX-License-Identifier: Apache-2.0
"""The compiled tables, read as the data plane reads them, against Python's `re`."""

import random
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.effort import examples
from tests.match_tables import Layouts, Packet, answer
from tests.reference.patterns import matches
from xdpprobe import signature_file
from xdpprobe.errors import DataError
from xdpprobe.patterns.compiler import Compiled, compile_signatures
from xdpprobe.signature_table import Signature

LAYOUTS = Layouts()
# Few bytes, so that random payloads match now and then.
ATOMS = ["a", "b", "A", ".", "[ab]", "[^a]", r"\x00", r"\m{fe:60}", r"\w", "[a-c\\x00]", r"\."]
BYTES = st.sampled_from(b"abcAB\x00.")


def tame(text: str) -> bool:
    """Loops within and behind each other: `re` tries all ways through them, one by one."""
    loops = sum(text.count(end) for end in ("*", "+", ",}"))
    return loops <= 3 and (not loops or text.count("){") < 2)


def regexes() -> st.SearchStrategy[str]:
    counts = st.sampled_from(["", "", "", "?", "*", "+", "{2}", "{0,2}", "{1,3}", "{2,}", "{33}"])
    group_counts = st.sampled_from(["", "", "?", "{2}", "{0,2}"])

    def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        branches = st.lists(inner, min_size=1, max_size=3).map("|".join)
        group = st.builds(lambda body, count: f"({body}){count}", branches, group_counts)
        return st.lists(inner | group, min_size=1, max_size=3).map("".join)

    atom = st.builds(lambda atom, count: atom + count, st.sampled_from(ATOMS), counts)
    body = st.recursive(st.lists(atom, min_size=1, max_size=4).map("".join), grown, max_leaves=6)
    body = body.filter(tame)
    start = st.sampled_from(["", "", "", "(?i)"])
    return st.builds(
        lambda start, body, end: start + body + end, start, body, st.sampled_from(["", "", "$"])
    )


@st.composite
def tables(draw: st.DrawFn) -> str:
    """One [[signature]] table."""
    keys: dict[str, str] = {"name": '"one"', "l4": draw(st.sampled_from(['"udp"', '"tcp"']))}
    if draw(st.integers(0, 9)):
        found = draw(st.lists(regexes(), min_size=1, max_size=draw(st.sampled_from([1, 1, 1, 2]))))
        keys["match"] = str([text.replace("'", "") for text in found]).replace("\\\\", "\\")
    if "match" not in keys or not draw(st.integers(0, 3)):
        keys["port"] = draw(st.sampled_from(["53", '[1, "50-60"]', '"0-65535"']))
    if not draw(st.integers(0, 3)):
        keys["length"] = draw(st.sampled_from(["5", '"3-8"', '"4-"', '"2047-"']))
    if not draw(st.integers(0, 3)):
        keys["field"] = draw(
            st.sampled_from(
                [
                    "{ at = 0, size = 1, plus = -95 }",
                    '{ at = 1, size = 1, is = "within" }',
                    '{ at = 2, size = 2, order = "little", plus = 4 }',
                    '{ at = 0, size = 3, is = "within", plus = -6381900 }',
                    "{ at = 40, size = 4 }",
                    "{ at = 1, size = 1, multiplier = 4, plus = -384 }",
                    '{ at = 0, size = 1, multiplier = 3, plus = -286, is = "within" }',
                ]
            )
        )
    if not draw(st.integers(0, 3)):
        keys["from"] = draw(st.sampled_from(['"initiator"', '"responder"']))
    if not draw(st.integers(0, 3)):
        keys["packet"] = draw(st.sampled_from(["1", '"2-3"', '"3-"']))
    if len(keys.get("match", "[,").split(",")) == 1 and not draw(st.integers(0, 3)):
        keys["search"] = draw(st.sampled_from(["2", "9"]))
    keys["confidence"] = str(draw(st.sampled_from([50, 90])))
    return "[[signature]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    payload = bytes(draw(st.lists(BYTES, min_size=1, max_size=12)))
    if not draw(st.integers(0, 3)):
        payload += bytes(draw(st.lists(BYTES, min_size=30, max_size=40)))
    return Packet(
        payload,
        draw(st.sampled_from(["udp", "tcp"])),
        draw(st.booleans()),
        draw(st.sampled_from([(53, 9), (9, 53), (1, 60), (49, 61), (0, 65535)])),
        draw(st.integers(1, 8)),
    )


def compiled(text: str) -> Compiled | None:
    try:
        signatures = signature_file.parse(Path("made.toml"), text.encode()).signatures
        return compile_signatures(signatures, LAYOUTS)
    except DataError:
        return None


def better(signature: Signature) -> tuple[bool, int]:
    return not signature.match, -signature.confidence


def agree(tables: Compiled, packet: Packet) -> None:
    fits = [one for one in tables.signatures if matches(one, packet)]
    row = answer(tables, packet)
    if not fits:
        assert row is None
        return
    assert row is not None, fits
    chosen = tables.signatures[int(row["signature"])]
    assert chosen in fits
    assert better(chosen) == min(map(better, fits))


@given(st.lists(tables(), min_size=1, max_size=4), st.lists(packets(), min_size=8, max_size=8))
def test_tables_say_what_the_files_say(texts: list[str], sent: list[Packet]) -> None:
    # One that is refused, by itself or as the tables are full, must not hide the others.
    good, made = "", None
    for text in texts:
        if (more := compiled(good + text)) is not None:
            good, made = good + text, more
    assume(made is not None)
    assert made is not None
    for packet in sent:
        agree(made, packet)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 2046, 2047, 2048])
def test_long_payloads(size: int) -> None:
    tables = compiled(
        "".join(
            f"[[signature]]\nname = 'x'\nl4 = 'udp'\n{keys}\n"
            for keys in (
                "match = 'a{250}b?c'",
                "match = '.{254}a$'\nlength = 255",
                "match = 'a+d'\nlength = '2047-'",
                "match = 'a'\nlength = '256-2046'\nconfidence = 50",
                "match = 'a'\nlength = '2047-'\nconfidence = 40",
            )
        )
    )
    assert tables is not None
    for last in (b"a", b"c", b"d"):
        for at in (0, size - 1, min(size - 1, 250), min(size - 1, 255), min(size - 1, 256)):
            agree(tables, Packet(b"a" * at + last + b"a" * (size - at - 1)))


@pytest.mark.parametrize(
    "regex",
    [
        "[ab]*a[ab]{6}c",
        "(a|bb)+(ab)*c",
        "(ab|ba)*(aa|bb)+c",
        "(a|b|ab|ba){3,9}c",
        "[ab]{30}(abc|bca|cab)+b",
        "(a*b)*c",
        "((a|b)?c){4}a",
        "(aab|c|ab){2,5}b$",
        "(abc|ab)(c|cab|b){1,4}b$",
        "a{1,40}b{2}",
        ".{250}ab",
        "a+b.",
        "(a+|.b)c...",
        "(?i)(aB|Ba)*c",
    ],
)
@pytest.mark.parametrize("search", [1, 20])
def test_automata(regex: str, search: int) -> None:
    if regex.endswith("$") and search > 1:
        pytest.skip("refused")
    made = compiled(
        f"[[signature]]\nname = 'x'\nl4 = 'udp'\nmatch = '{regex}'\nsearch = {search}\n"
    )
    assert made is not None
    dice = random.Random(regex)
    hits = 0
    for _ in examples(400):
        payload = walked(made, dice)
        if dice.randrange(2):
            payload[dice.randrange(len(payload))] = dice.choice(b"abcA")
        hits += matches(made.signatures[0], Packet(bytes(payload)))
        agree(made, Packet(bytes(payload)))
    assert hits


def walked(tables: Compiled, dice: random.Random) -> bytearray:
    """A payload that the automaton, if there is one, likes for some way."""
    state, payload = int(tables.classes[2]["row"][0]["state"]), bytearray()
    for _ in range(dice.randrange(1, 280)):
        liked = [byte for byte in b"abcA" if state > 1 and tables.automaton["next"][state][byte]]
        payload.append(dice.choice(liked or list(b"abcA")))
        state = int(tables.automaton["next"][state][payload[-1]])
        if state == 1 and not dice.randrange(3):
            break
    return payload


def test_no_two_states_accept_the_same() -> None:
    texts = ["[ab]*a[ab]{6}c", "x[^b]*a[ab]{6}c", "a*a*a*b.{40}c", "(ab|cb){3}.*z", "q(a|b)*z"]
    made = compiled(
        "".join(f"[[signature]]\nname = 'x'\nl4 = 'tcp'\nmatch = '{text}'\n" for text in texts)
    )
    assert made is not None
    table = made.automaton["next"][: made.states]
    classes = [0 if state != 1 else 1 for state in range(made.states)]
    while True:
        keys = [(classes[n], *(classes[to] for to in table[n].tolist())) for n in range(len(table))]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        refined = [numbers[key] for key in keys]
        if len(numbers) == len(set(classes)):
            break
        classes = refined
    assert len(set(classes)) == made.states
