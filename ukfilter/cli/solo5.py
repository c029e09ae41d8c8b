"""Under the name solo5-hvt or solo5-spt: as that tender of Solo5's, in what a user or a script sees of it."""

from __future__ import annotations

from ukfilter.cli import run
from ukfilter.tender import run_here

TARGETS = {"solo5-hvt": "hvt", "solo5-spt": "spt"}


def main(name: str, words: list[str]) -> int:
    """Run the image that words name. Solo5's banner is shown, and each device is to be attached.

    All of ukfilter's options are taken as well. Raises UkfilterError.
    """
    parsed = run.parse(words)
    if isinstance(parsed, int):
        return parsed
    path, args, options = parsed
    options.targets = (TARGETS[name],)
    options.attach_standard = False
    options.quiet = False
    run_here(path, args, options)
