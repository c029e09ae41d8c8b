"""The options of the main job, as a table, and the quick way to read them.

click is made of the same table (command.py); it takes longer to load than a guest to start, and is wanted
only where there is something to explain: help, the version, words that do not parse.
"""

from __future__ import annotations

from ukfilter.tender import options as values

ONE, MANY, OPTIONAL, FLAG, COUNT = range(5)  # values of an option: OPTIONAL's stands in the same word

# Spellings, name, how many values, what a value is called, help.
OPTIONS = (
    (("-m", "--mem"), "mem", ONE, "SIZE", "Guest memory: 512M unless told, up to 4G."),
    (
        ("--tender",),
        "tender",
        ONE,
        "auto|kvm|process|PATH",
        "What runs the guest; PATH: solo5-hvt or solo5-spt.",
    ),
    (
        ("--net",),
        "nets",
        MANY,
        "NAME=END",
        "Attach a network device: @FD, - (stdin and stdout), or a path. Also --net:NAME=END.",
    ),
    (("--net-mtu",), "mtus", MANY, "NAME=N", "The MTU it is told."),
    (("--net-mac",), "macs", MANY, "NAME=MAC", "The address it is told."),
    (("--block",), "blocks", MANY, "NAME=PATH[,ro]", "Attach a file or disk as block device."),
    (("--block-sector-size",), "sectors", MANY, "NAME=N", "Bytes a sector: 512 unless told."),
    (("--console",), "console", ONE, "WHERE", "stdout, stderr, null or a path."),
    (("--eof",), "eof", ONE, "MODE", "auto, zero, halt, error or again."),
    (("--drain",), "drain", ONE, "TIME", "How long a guest may wait at end of input: 1s."),
    (("-t", "--timeout"), "timeout", ONE, "TIME", "End the guest after TIME, with status 124."),
    (
        ("-k", "--kill-after"),
        "kill_after",
        ONE,
        "TIME",
        "As timeout(1) has it; a guest ends at once anyway.",
    ),
    (
        ("--status-fd",),
        "status_fd",
        ONE,
        "N",
        "Write JSON to descriptor N: start, and end with figures.",
    ),
    (("--trace",), "trace", OPTIONAL, "[=PATH]", "One line a hypercall, to standard error or to PATH."),
    (("--dumpcore",), "dumpcore", ONE, "DIR", "If the guest aborts, write its core there, for gdb."),
    (("--exitless",), "exitless", ONE, "WHEN", "Serve hypercalls without an exit: auto, on or off."),
    (
        ("--progress",),
        "progress",
        OPTIONAL,
        "[=WHEN]",
        "Show bytes, rate and time: auto, always or never.",
    ),
    (("--no-quiet",), "no_quiet", FLAG, "", "Let Solo5 print its banner."),
    (("--stats",), "stats", FLAG, "", "Print figures on stderr at the end."),
    (("-v", "--verbose"), "verbose", COUNT, "", "Say more."),
    (("-q", "--quiet"), "silent", FLAG, "", "Say nothing but errors."),
)
UNSAID = {"trace": "", "progress": "auto"}  # the value of OPTIONAL, where it is left out
NONE = {ONE: None, MANY: (), OPTIONAL: None, FLAG: False, COUNT: 0}

KINDS = {spelling: (name, kind) for spellings, name, kind, _, _ in OPTIONS for spelling in spellings}
COLON_OPTIONS = ("--net", "--net-mac", "--net-mtu", "--block", "--block-sector-size")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Given = dict[str, Any]
    Kinds = dict[str, tuple[str, int]]  # spelling: name, how many values
    Read = tuple[str, list[str], Given]  # the image, its arguments, what the options say by their names


def spelled_out(words: list[str], kinds: Kinds = KINDS) -> list[str]:
    """Words up to the image with Solo5's `--net:NAME=END` as `--net NAME=END`, and no value left out.

    What an option takes for its value stays as it is, whatever it looks like.
    """
    out: list[str] = []
    rest = words[::-1]
    while rest and rest[-1].startswith("-") and rest[-1] not in ("-", "--"):
        word = rest.pop()
        name, kind = kinds.get(word, ("", FLAG))
        option, colon, value = word.partition(":")
        if kind == OPTIONAL:
            out.append(f"{word}={UNSAID[name]}")
        elif colon and option in COLON_OPTIONS and option in kinds:
            out += [option, value]
        else:
            out.append(word)
            if rest and _takes_next(word, kinds):
                out.append(rest.pop())
    return out + rest[::-1]


def _takes_next(word: str, kinds: Kinds) -> bool:
    """Whether the value of an option, or of the last one in a group like -vt, is in the next word."""
    spellings = [word] if word.startswith("--") else [f"-{letter}" for letter in word[1:]]
    last = spellings.pop()
    flags = all(kinds.get(each, ("", ONE))[1] in (FLAG, COUNT) for each in spellings)
    return flags and kinds.get(last, ("", FLAG))[1] in (ONE, MANY)


def read(words: list[str]) -> Read | None:
    """What click would make of words that are spelled out; None: let click say what is wrong, or help."""
    given: Given = {name: NONE[kind] for _, name, kind, _, _ in OPTIONS}
    rest = words[::-1]
    while rest:
        word = rest.pop()
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            rest.append(word)
            break
        if not _take(word, rest, given):
            return None
    return (rest.pop(), rest[::-1], given) if rest else None


def _take(word: str, rest: list[str], given: Given) -> bool:
    """Take an option, and its value from the end of rest if it has one there; False: it is none of ours."""
    if word.startswith("--"):
        spelling, equals, value = word.partition("=")
    else:
        spelling, equals, value = word[:2], word[2:], word[2:]
    name, kind = KINDS.get(spelling, ("", FLAG))
    if not name or (kind in (FLAG, COUNT) and equals) or (kind == OPTIONAL and not equals):
        return False
    if kind == FLAG:
        given[name] = True
    elif kind == COUNT:
        given[name] += 1
    else:
        if not equals:
            if not rest or rest[-1].startswith("-"):
                return False
            value = rest.pop()
        given[name] = (*given[name], value) if kind == MANY else value
    return True


def _pairs(given: Given, name: str, what: str) -> dict[str, str]:
    return dict(values.parse_assignment(text, what) for text in given[name])


def to_options(given: Given) -> values.Options:
    """Options from what was given. Raises UsageError."""
    options = values.options_from_env()
    text: dict[str, str] = {name: value for name, value in given.items() if isinstance(value, str)}
    if "mem" in text:
        options.mem = values.parse_size(text["mem"])
    if "tender" in text:
        options.tender = values.parse_tender(text["tender"])
    if "eof" in text:
        options.eof = values.parse_choice(text["eof"], values.EOF_MODES, "--eof")
    if "drain" in text:
        options.drain = values.parse_time(text["drain"])
    if "timeout" in text:
        options.timeout = values.parse_time(text["timeout"], "--timeout")
    if "kill_after" in text:
        values.parse_time(text["kill_after"], "--kill-after")
    if "status_fd" in text:
        options.status_fd = values.parse_descriptor(text["status_fd"], "--status-fd")
    options.dumpcore = text.get("dumpcore")
    if "exitless" in text:
        options.exitless = values.parse_choice(text["exitless"], values.EXITLESS, "--exitless")
    options.trace = text.get("trace")
    options.console = text.get("console")
    options.nets = _pairs(given, "nets", "--net")
    mtus, macs = _pairs(given, "mtus", "--net-mtu"), _pairs(given, "macs", "--net-mac")
    options.mtus = {name: values.parse_mtu(value) for name, value in mtus.items()}
    options.macs = {name: values.parse_mac(value) for name, value in macs.items()}
    options.blocks = _pairs(given, "blocks", "--block")
    sectors = _pairs(given, "sectors", "--block-sector-size")
    options.sector_sizes = {name: values.parse_sector_size(value) for name, value in sectors.items()}
    silent = given["silent"]
    options.quiet = not given["no_quiet"]
    options.stats = given["stats"] and not silent
    options.verbose = 0 if silent else given["verbose"]
    return options
