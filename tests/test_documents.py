"""What the documents say of the tree is so: modules, the direction of imports, links, messages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from harness import ROOT

DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "model/README.md",
)
MAY_IMPORT = {  # a folder of the package, and those below it
    "cli": {"cli", "fs", "pipes", "tender", "image", "devices", "errors"},
    "fs": {"fs", "pipes", "tender", "image", "devices", "errors"},
    "pipes": {"pipes", "tender", "image", "devices", "errors"},
    "tender": {"tender", "image", "devices", "errors"},
    "devices": {"devices", "image", "errors"},
    "image": {"image", "errors"},
    "errors": {"errors"},
}
HEAVY = {"trio", "click", "tqdm", "pyfuse3"}


def modules() -> list[Path]:
    """Every source file of the package that has something in it."""
    paths = [
        *(ROOT / "ukfilter").rglob("*.py"),
        *(ROOT / "ukfilter").rglob("*.[ch]"),
        ROOT / "bin" / "launcher.c",
    ]
    built = {"ukfilter/tender/_core.c", "ukfilter/fs/_shim.c"}
    return [p for p in paths if p.name != "__init__.py" and str(p.relative_to(ROOT)) not in built]


def test_the_list_of_modules_is_the_trees() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    listed = re.findall(r"^\|.*\|$", text, re.M)
    named = {name for line in listed for name in re.findall(r"`((?:ukfilter|bin)/[\w/.]+)`", line)}
    assert named == {str(p.relative_to(ROOT)) for p in modules()}


def imports(path: Path) -> set[str]:
    """Names of modules that path imports, anywhere but for type checking."""
    found = set()
    tree = ast.parse(path.read_text())
    only_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in only_types:
            continue
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "ukfilter":
                found |= {f"ukfilter.{a.name}" for a in node.names}
    return found


@pytest.mark.parametrize(
    "path", [p for p in modules() if p.suffix == ".py"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_arrows_go_down(path: Path) -> None:
    parts = path.relative_to(ROOT / "ukfilter").with_suffix("").parts
    if parts[0] == "__main__":
        return
    for name in imports(path):
        if name.startswith("ukfilter."):
            other = name.split(".")[1]
            assert other in MAY_IMPORT[parts[0]] or other.startswith("__"), (path, name)
        if parts[0] not in ("cli", "fs", "pipes"):
            assert name.split(".")[0] not in HEAVY, (path, name)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_go_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target
