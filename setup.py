"""What pyproject.toml cannot say: the C core, and an entry script without the generated one's imports."""

from setuptools import setup

setup(
    cffi_modules=["ukfilter/tender/core/build_core.py:ffibuilder"],
    scripts=["bin/ukfilter"],
)
