"""ukfilter: run a Solo5 unikernel as a Unix filter."""

__version__ = "0.1.0"
