"""Under the name solo5-hvt or solo5-spt: as that tender of Solo5's, in what a user or a script sees of it."""

from __future__ import annotations

from ukfilter.tender import run_here
from ukfilter.tender.options import options_from_env

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ukfilter.tender.options import Options

TARGETS = {"solo5-hvt": "hvt", "solo5-spt": "spt"}


def stand_in(options: Options, name: str) -> None:
    """Solo5's banner is shown, each device is to be attached, and one target alone runs."""
    options.targets = (TARGETS[name],)
    options.attach_standard = False
    options.quiet = False


def main(name: str, words: list[str]) -> int:
    """Run the image that words name; all of ukfilter's options are taken as well. Raises UkfilterError."""
    if words and not words[0].startswith("-"):
        options = options_from_env()
        stand_in(options, name)
        if "/" not in options.tender:
            run_here(words[0], words[1:], options)
    from ukfilter.cli import run

    return run.main(words, name)
