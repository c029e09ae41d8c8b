"""What pyproject.toml cannot say: the C core, and the command itself, which is a small C program."""

import os
import shlex
import subprocess
import sys
from glob import glob

from setuptools import setup  # isort: skip  (it must come before distutils, which it provides)
from distutils.command.build_scripts import build_scripts  # isort: skip

FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]


class BuildLauncher(build_scripts):
    """Compile bin/launcher.c to `ukfilter`; a generated script would be Python from its first line."""

    def run(self) -> None:
        os.makedirs(self.build_dir, exist_ok=True)
        target = os.path.join(self.build_dir, "ukfilter")
        compiler = shlex.split(os.environ.get("CC", "gcc"))
        values = {
            "PYTHON": sys.executable,
            "PACKAGES": f"../lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages",
            "EDITABLE": f"__editable__.ukfilter-{self.distribution.get_version()}.pth",
        }
        defined = [f'-D{name}="{value}"' for name, value in values.items()]
        subprocess.check_call([*compiler, *FLAGS, *defined, "-o", target, "bin/launcher.c"])


def has_fuse() -> bool:
    """Whether the mount's shim can be built: it needs libfuse 3's headers; all else does without."""
    try:
        return subprocess.run(["pkg-config", "--exists", "fuse3"], check=False).returncode == 0
    except FileNotFoundError:
        return False


setup(
    cffi_modules=[
        "ukfilter/tender/core/build_core.py:ffibuilder",
        *(["ukfilter/fs/shim/build_shim.py:ffibuilder"] if has_fuse() else []),
    ],
    scripts=["bin/launcher.c"],
    data_files=[
        ("share/man/man1", sorted(glob("man/*.1"))),
        ("share/man/man7", ["man/ukfilter.7"]),
        ("share/bash-completion/completions", ["completion/ukfilter"]),
        ("share/zsh/site-functions", ["completion/_ukfilter"]),
        ("share/fish/vendor_completions.d", ["completion/ukfilter.fish"]),
    ],
    cmdclass={"build_scripts": BuildLauncher},
)
