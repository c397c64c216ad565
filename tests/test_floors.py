"""The house: which part may import which."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "src" / "windownet"

# A part imports only from lower floors; within a part, files import each other freely but never in a circle.
FLOORS = {
    "errors": 0,
    "autodiff": 1,
    "byte_bar": 1,
    "checkpoint": 1,
    "interrupts": 1,
    "machine": 1,
    "metrics": 1,
    "schema": 1,
    "config": 2,
    "data": 2,
    "resume": 3,
    "settings": 3,
    "model": 3,
    "optim": 3,
    "run_folder": 4,
    "tagger": 4,
    "train": 5,
    "pretrain": 5,
    "experiment": 6,
    "verbs": 7,
    "cli": 8,
}
# These say what they stand on more narrowly than their floor would.
ONLY = {
    "autodiff": set(),
    "schema": set(),
    "optim": {"autodiff", "schema", "errors"},
    "resume": {"config", "errors"},
    "run_folder": {"metrics", "resume", "errors"},
}
# Libraries that only some parts may bring in.
LIBRARIES = {
    "jax": {"autodiff", "checkpoint", "machine", "model", "optim", "tagger", "train", "pretrain", "experiment"},
    "optax": {"model", "optim", "train", "pretrain"},
    "flax": {"model"},
    "datasets": {"data"},
    "rich": {"autodiff", "byte_bar", "train", "pretrain", "experiment", "verbs"},
    "click": {"verbs", "cli"},
    "matplotlib": {"verbs"},
}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports_of(path: Path) -> dict[str, set[Path]]:
    """Files of the package that a file imports, by the part they belong to."""
    found: dict[str, set[Path]] = {}
    for name in imported_modules(path):
        package, *rest = name.split(".")
        if package != "windownet":
            continue
        for end in range(len(rest), 0, -1):
            stem = ROOT.joinpath(*rest[:end])
            file = stem.with_suffix(".py") if stem.with_suffix(".py").exists() else stem / "__init__.py"
            if file.exists():
                found.setdefault(rest[0], set()).add(file)
                break
    return found


def floor_faults(path: Path, imports: dict[str, set[Path]]) -> list[str]:
    part = part_of(path)
    faults = []
    for other in imports:
        if other == part:
            continue
        if FLOORS[other] >= FLOORS[part] or (part in ONLY and other not in ONLY[part]):
            faults.append(f"{path.relative_to(ROOT)}: {part} may not import {other}")
    return faults


FILES = [path for path in sorted(ROOT.rglob("*.py")) if part_of(path) not in {"__init__", "__main__"}]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    assert not floor_faults(path, imports_of(path))
    libraries = {name.split(".")[0] for name in imported_modules(path)} & LIBRARIES.keys()
    assert all(part_of(path) in LIBRARIES[library] for library in libraries), libraries


def test_no_circle() -> None:
    graph = {
        path: {file for files in imports_of(path).values() for file in files if file.name != "__init__.py"}
        for path in FILES
        if path.name != "__init__.py"
    }
    done: set[Path] = set()
    while ready := {path for path, below in graph.items() if path not in done and below <= done}:
        done |= ready
    assert done == graph.keys(), f"circle among {sorted(str(p) for p in graph.keys() - done)}"


def test_an_import_that_runs_up_is_found() -> None:
    data = next(path for path in FILES if part_of(path) == "data")
    assert floor_faults(data, {"train": set()})
    assert floor_faults(ROOT / "autodiff" / "graph.py", {"errors": set()})
    assert not floor_faults(data, {"schema": set(), "data": set()})
