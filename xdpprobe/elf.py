# SPDX-License-Identifier: Apache-2.0
"""The BPF object file, checked before the kernel sees it.

libbpf answers a damaged object with a number; here the user learns which file it is and what is
wrong with it.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from xdpprobe.errors import DataError

_HINT = "build the object again with `make bpf`, or install the package again"
_NEEDED = ("license", ".maps", ".BTF", ".BTF.ext", ".rodata")


@dataclass(frozen=True)
class ObjectFile:
    """What stands in the object besides its code.

    programs: program name -> section name, as `xdp.frags` or `tc`.
    constants: name of a load-time constant -> (offset in .rodata, size), bytes.
    """

    path: Path
    digest: bytes  # SHA-256 of the file
    btf: bytes
    license: str
    programs: dict[str, str]
    constants: dict[str, tuple[int, int]]


def read_object(path: Path) -> ObjectFile:
    """Reads and checks an object file. Raises DataError when it is missing or broken."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            str(path), f"the BPF object cannot be read ({error.strerror})", _HINT
        ) from (error)
    try:
        return _parse(path, data)
    except (ELFError, ConstructError, ValueError, KeyError, IndexError) as error:
        raise DataError(str(path), f"not a readable ELF file ({error})", _HINT) from error


def _parse(path: Path, data: bytes) -> ObjectFile:
    elf = ELFFile(io.BytesIO(data))
    if elf.header["e_machine"] != "EM_BPF" or not elf.little_endian:
        raise DataError(str(path), "not a little-endian BPF object", _HINT)
    sections = list(elf.iter_sections())
    by_name = {section.name: section for section in sections}
    missing = [name for name in _NEEDED if name not in by_name]
    if missing:
        raise DataError(str(path), f"the BPF object has no section {', '.join(missing)}", _HINT)
    programs: dict[str, str] = {}
    constants: dict[str, tuple[int, int]] = {}
    for table in sections:
        if not isinstance(table, SymbolTableSection):
            continue
        for symbol in table.iter_symbols():
            place, kind = symbol["st_shndx"], symbol["st_info"]["type"]
            if not isinstance(place, int):
                continue
            section = sections[place].name
            if kind == "STT_OBJECT" and section == ".rodata":
                constants[symbol.name] = (symbol["st_value"], symbol["st_size"])
            elif kind == "STT_FUNC" and section != ".text":
                programs[symbol.name] = section
    if not programs:
        raise DataError(str(path), "the BPF object has no program", _HINT)
    return ObjectFile(
        path=path,
        digest=hashlib.sha256(data).digest(),
        btf=by_name[".BTF"].data(),
        license=by_name["license"].data().rstrip(b"\0").decode(),
        programs=programs,
        constants=constants,
    )
