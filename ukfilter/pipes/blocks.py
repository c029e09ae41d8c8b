"""Input cut into blocks at record ends. Pure: bytes in, blocks out."""

from __future__ import annotations

from collections.abc import Iterator

from ukfilter.errors import UsageError, printable

ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}


class Cutter:
    """Cut what feed() is given after a record end, into blocks of about `size` bytes.

    A block is as long as whole records let it be, up to size; a record that is longer is a block of its own.
    """

    def __init__(self, size: int, record_end: bytes) -> None:
        self.size, self.record_end = size, record_end
        self._held = bytearray()
        self._searched = 0  # no record end begins before this

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The blocks that are complete now."""
        self._held += data
        while len(self._held) >= self.size:
            cut = self._cut()
            if cut is None:
                return
            yield bytes(self._held[:cut])
            del self._held[:cut]
            self._searched = 0

    def _cut(self) -> int | None:
        length = len(self.record_end)
        last = self._held.rfind(self.record_end, self._searched, self.size)
        if last >= 0:
            return last + length
        first = self._held.find(self.record_end, max(self._searched, self.size - length + 1))
        if first >= 0:
            return first + length
        self._searched = max(len(self._held) - length + 1, 0)
        return None

    def rest(self) -> bytes:
        """What is left at the end of input: the last block, if there is one."""
        held, self._held = bytes(self._held), bytearray()
        return held


def parse_record_end(text: str) -> bytes:
    """Bytes, with \\n, \\t, \\r, \\0, \\\\ and \\xHH. Raises UsageError."""
    out, rest = b"", text
    while rest:
        plain, slash, rest = rest.partition("\\")
        out += plain.encode(errors="surrogateescape")
        if not slash:
            break
        if rest[:1] == "x" and len(rest) >= 3:
            try:
                out += bytes.fromhex(rest[1:3])
            except ValueError:
                raise _wrong(text) from None
            rest = rest[3:]
        elif rest[:1] in ESCAPES and rest:
            out += ESCAPES[rest[0]]
            rest = rest[1:]
        else:
            raise _wrong(text)
    if not out:
        raise _wrong(text)
    return out


def _wrong(text: str) -> UsageError:
    return UsageError(f"--recend: {printable(text)} is no record end; write it as '\\n', '\\0' or '\\x1e'")
