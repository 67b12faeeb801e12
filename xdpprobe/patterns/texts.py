# SPDX-License-Identifier: Apache-2.0
"""Signatures by a text as the data plane's table: what a field begins with -> a verdict."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from xdpprobe.errors import DataError
from xdpprobe.signature_table import Signature
from xdpprobe.signature_texts import CERTAIN, TEXTS_LIMIT, Text


class Layouts(Protocol):
    """What `abi.Abi` has and the table needs."""

    @property
    def enums(self) -> Mapping[str, Mapping[str, int]]: ...
    def dtype(self, name: str) -> np.dtype[Any]: ...


def compile_texts(signatures: Sequence[Signature], layouts: Layouts) -> list[tuple[bytes, bytes]]:
    """The (key, value) pairs; of two signatures with the same text the earlier one counts.

    They are not too many: `add_layer` has counted them. Signatures of a higher layer stand before
    those of a lower one (`Catalogue.signatures`).
    """
    kinds = layouts.enums["text_kind"]
    key_dtype, value_dtype = layouts.dtype("text_key"), layouts.dtype("text_value")
    table: dict[bytes, bytes] = {}
    for signature, text in texts_of(signatures):
        key, value = np.zeros((), key_dtype), np.zeros((), value_dtype)
        key["prefix_bits"] = 8 * (1 + len(text.data))
        key["kind"] = kinds[f"TEXT_{text.kind.upper()}"]
        key["text"][: len(text.data)] = np.frombuffer(text.data, np.uint8)
        value["protocol"], value["app"] = signature.protocol_id, signature.app_id
        value["confidence"], value["final"] = signature.confidence, signature.final
        value["in_place"] = text.kind == "server" and signature.confidence == CERTAIN
        table.setdefault(key.tobytes(), value.tobytes())
    return list(table.items())


def texts_of(signatures: Iterable[Signature]) -> Iterator[tuple[Signature, Text]]:
    """Each text with its signature."""
    for signature in signatures:
        for text in signature.texts:
            yield signature, text


def add_layer(known: set[tuple[str, bytes]], signatures: Sequence[Signature]) -> None:
    """Put a layer's texts to those of the layers below it.

    Raises DataError where two of its signatures have the same text, and where all are too many.
    """
    own: dict[tuple[str, bytes], Signature] = {}
    for signature, text in texts_of(signatures):
        other = own.setdefault((text.kind, text.data), signature)
        if other is not signature:
            raise DataError(
                signature.where(text.kind, text.shown),
                f"{text.kind}: {text.shown!r} stands in {other.where(text.kind, text.shown)} too",
            )
    known.update(own)
    if len(known) > TEXTS_LIMIT:
        largest = max(signatures, key=lambda signature: len(signature.texts))
        why = f"more than {TEXTS_LIMIT} texts of signatures in all"
        raise DataError(largest.where(), why, "load fewer files")
