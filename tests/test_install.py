"""The package as a user gets it: sdist, wheel, a clean virtual environment, another directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import harness
import pytest
from harness import EXAMPLES, ROOT, run

pytestmark = pytest.mark.slow

KEPT = (
    "bin",
    "completion",
    "examples",
    "man",
    "ukfilter",
    "CHANGELOG.md",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
)
PIP = ("-m", "pip", "--disable-pip-version-check")


@pytest.fixture(scope="module", params=["fuse", "no fuse"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    """A virtual environment with the wheel of the sdist; and whether libfuse's headers were there."""
    tmp, fuse = tmp_path_factory.mktemp("install"), request.param == "fuse"
    env = {**os.environ, **({} if fuse else {"PKG_CONFIG_LIBDIR": "/nonexistent", "PKG_CONFIG_PATH": ""})}
    source = tmp / "source"
    source.mkdir()
    for name in (*KEPT, "README.md", "pyproject.toml", "setup.py"):
        path = ROOT / name
        if path.is_dir():
            ignored = shutil.ignore_patterns("build", "__pycache__", "*.so", "*.o", "*.egg-info")
            shutil.copytree(path, source / name, ignore=ignored)
        else:
            shutil.copy(path, source)

    def do(*argv: object, cwd: Path = tmp) -> None:
        subprocess.run(list(map(str, argv)), cwd=cwd, env=env, check=True, capture_output=True, timeout=300)

    do(sys.executable, "setup.py", "-q", "sdist", "-d", tmp, cwd=source)
    (sdist,) = tmp.glob("ukfilter-*.tar.gz")
    do(sys.executable, *PIP, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp, sdist)
    (wheel,) = tmp.glob("ukfilter-*.whl")
    do(sys.executable, "-m", "venv", tmp / "venv")
    do(tmp / "venv/bin/python", *PIP, "install", "-q", wheel)
    return tmp, fuse


def test_the_main_job_from_another_directory(installed: tuple[Path, bool], tmp_path: Path) -> None:
    ukfilter = installed[0] / "venv/bin/ukfilter"
    env = {**harness.ENV, "PATH": f"/usr/sbin:/usr/bin:/sbin:/bin:{ukfilter.parent}"}
    shutil.copy(EXAMPLES / "cat.hvt", tmp_path)
    result = run("bash", "-c", "seq 5 | ukfilter cat.hvt | wc -l", cwd=tmp_path, env=env)
    assert (result.status, result.out, result.err) == (0, b"5\n", b"")
    result = run("bash", "-c", "seq 5 | ukfilter pipe cat.hvt '|' ! wc -l", cwd=tmp_path, env=env)
    assert (result.status, result.out, result.err) == (0, b"5\n", b"")


def test_pages_and_completion_come_along(installed: tuple[Path, bool]) -> None:
    share = installed[0] / "venv/share"
    for path in (ROOT / "man").glob("*.[17]"):
        assert (share / "man" / f"man{path.suffix[1:]}" / path.name).read_bytes() == path.read_bytes()
    assert (share / "bash-completion/completions/ukfilter").exists()
    if shutil.which("man"):
        env = {**harness.ENV, "PATH": f"{installed[0]}/venv/bin:/usr/bin:/bin"}
        assert b"ukfilter.1" in run("man", "-w", "ukfilter", env=env).out


def test_the_mount_is_there_or_says_what_is_missing(installed: tuple[Path, bool], tmp_path: Path) -> None:
    ukfilter = installed[0] / "venv/bin/ukfilter"
    result = run(ukfilter, "mount", tmp_path, f"cat={EXAMPLES}/cat.hvt")
    assert result.status == 125
    assert b"pyfuse3 is not installed; install it: apt install libfuse3-dev" in result.err
    (wheel,) = installed[0].glob("*.whl")
    with zipfile.ZipFile(wheel) as f:
        names = f.namelist()
    assert any("fs/_shim" in n for n in names) is installed[1]


def test_the_sdist_has_what_a_new_user_needs(installed: tuple[Path, bool]) -> None:
    (sdist,) = installed[0].glob("*.tar.gz")
    with tarfile.open(sdist) as f:
        names = {n.split("/", 1)[-1] for n in f.getnames()}
    assert {"examples/cat.c", "examples/lib/uk.h", "man/ukfilter.7", "LICENSE", "README.md"} <= names
    assert not [n for n in names if n.endswith((".so", ".o", ".hvt"))]
