"""What is mounted: `NAME=IMAGE` words and TOML files as a list of filters. Pure, but for reading the file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from ukfilter.errors import UsageError, printable
from ukfilter.tender import options as values

SPOOL_DEFAULT = 1 << 30  # bytes
GUEST_KEYS = ("mem", "timeout", "eof", "tender")  # texts, as the options of these names take them
KEYS = ("image", "args", *GUEST_KEYS, "spool")


@dataclass(frozen=True)
class Filter:
    """A directory of the mount: image is an absolute path, spool the limit of kept output in bytes."""

    name: str
    image: str
    args: tuple[str, ...] = ()
    mem: str = ""
    timeout: str = ""
    eof: str = ""
    tender: str = ""
    spool: int = SPOOL_DEFAULT

    def options(self) -> values.Options:
        """Its guest's settings. Raises UsageError."""
        options = values.options_from_env()
        if self.mem:
            options.mem = values.parse_size(self.mem, "mem")
        if self.timeout:
            options.timeout = values.parse_time(self.timeout, "timeout")
        if self.eof:
            options.eof = values.parse_choice(self.eof, values.EOF_MODES, "eof")
        if self.tender:
            options.tender = values.parse_choice(self.tender, values.TENDERS, "tender")
        return options

    def settings(self) -> str:
        """The text of `ctl`: as a TOML file has it."""
        lines = [f"image = {_toml(self.image)}", f"args = [{', '.join(map(_toml, self.args))}]"]
        lines += [f"{key} = {_toml(value)}" for key in GUEST_KEYS if (value := getattr(self, key))]
        return "\n".join([*lines, f"spool = {self.spool}", ""])


def _toml(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def parse_spool(text: str, what: str = "--spool") -> int:
    """Bytes, as 64M or 2G; at least a page."""
    return values.parse_bytes(text, what, 4096)


def read_filters(words: list[str], defaults: Mapping[str, str], spool: int = SPOOL_DEFAULT) -> list[Filter]:
    """The filters that words name, in order; defaults are for keys that a word leaves out.

    Raises UsageError for a name twice, or one that no directory can have; and what a TOML file holds.
    """
    found: list[Filter] = []
    for word in words:
        name, equals, image = word.partition("=")
        if equals and image:
            _check_name(name)
            found.append(_filter(name, os.path.abspath(image), (), spool, defaults))
        elif word.endswith(".toml"):
            found += _from_file(word, defaults, spool)
        else:
            raise UsageError(f"{printable(word)}: is neither NAME=IMAGE nor a .toml file")
    names = [f.name for f in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{printable(name)}: this name is given twice")
    for each in found:
        try:
            each.options()
        except UsageError as e:
            raise UsageError(f"{printable(each.name)}: {e}") from None
    return found


def _check_name(name: str) -> None:
    if name in ("", ".", "..") or "/" in name or not name.isprintable() or len(os.fsencode(name)) > 255:
        raise UsageError(f"{printable(name)}: no directory can have this name")


def _from_file(path: str, defaults: Mapping[str, str], spool: int) -> list[Filter]:
    try:
        with open(path, "rb") as f:
            tables = tomllib.load(f)
    except OSError as e:
        raise UsageError(f"{printable(path)}: cannot read it: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UsageError(f"{printable(path)}: is no TOML: {printable(str(e))}") from None
    return [_from_table(path, name, table, defaults, spool) for name, table in tables.items()]


def _from_table(path: str, name: str, table: object, defaults: Mapping[str, str], spool: int) -> Filter:
    where = f"{printable(path)}: [{printable(name)}]"
    if not isinstance(table, dict):
        raise UsageError(f"{where}: is a value; write [NAME] and its settings under it")
    _check_name(name)
    for key in table:
        if key not in KEYS:
            raise UsageError(f"{where}: no setting {printable(key)}; there are: {', '.join(KEYS)}")
    image, args = table.get("image"), table.get("args", [])
    if not isinstance(image, str) or not image:
        raise UsageError(f"{where}: which image? Write image = PATH")
    if not isinstance(args, list) or not all(isinstance(a, str) for a in args):
        raise UsageError(f'{where}: args is not a list of texts; write args = ["a", "b"]')
    given = {key: str(table[key]) for key in GUEST_KEYS if key in table}
    if "spool" in table:
        spool = parse_spool(str(table["spool"]), f"{where}: spool")
    beside = os.path.join(os.path.dirname(os.path.abspath(path)), image)
    return _filter(name, beside, tuple(args), spool, {**defaults, **given})


def _filter(name: str, image: str, args: tuple[str, ...], spool: int, given: Mapping[str, str]) -> Filter:
    return Filter(name, image, args, spool=spool, **{key: given.get(key, "") for key in GUEST_KEYS})
