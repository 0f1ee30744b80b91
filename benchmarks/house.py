"""The house in numbers: rooms, imports between them, constructors, lengths of functions and files.

python benchmarks/house.py
"""

from __future__ import annotations

import ast
import inspect
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "skgenad"

Function = ast.FunctionDef | ast.AsyncFunctionDef


def room_of(path: Path) -> str:
    """Folder or file below the package that a file lies in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources() -> dict[Path, str]:
    """Text of every file of the package."""
    return {path: path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def imported_rooms(path: Path, source: str) -> Iterator[str]:
    """Yield the room of each name that a file imports from the package."""
    folder = ("skgenad", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ("__init__" for alias in node.names if alias.name == "skgenad")
        if not isinstance(node, ast.ImportFrom):
            continue
        base = folder[: len(folder) - node.level + 1] if node.level else ()
        module = (*base, *(node.module.split(".") if node.module else ()))
        for alias in node.names if module[:1] == ("skgenad",) else ():
            below = (*module[1:], alias.name)[0]
            known = (PACKAGE / below).is_dir() or (PACKAGE / f"{below}.py").is_file()
            yield below if known else "__init__"


def imports_between_rooms() -> Counter[tuple[str, str]]:
    """Count imported names by the room that imports and the room they come from."""
    counts: Counter[tuple[str, str]] = Counter()
    for path, source in sources().items():
        counts.update((room_of(path), target) for target in imported_rooms(path, source))
    return Counter({pair: n for pair, n in counts.items() if pair[0] != pair[1]})


def length_of(function: Function, lines: list[str]) -> int:
    """Lines of a function's body that are neither docstring, blank nor comment."""
    first = function.body[0]
    start = first.lineno
    if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
        start = (first.end_lineno or 0) + 1
    kept = [lines[n - 1].strip() for n in range(start, (function.end_lineno or 0) + 1)]
    return sum(bool(line) and not line.startswith("#") for line in kept)


def function_lengths() -> dict[str, int]:
    """Length of every function of the package, by place."""
    found = {}
    for path, source in sources().items():
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, Function):
                place = f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}"
                found[place] = length_of(node, lines)
    return found


def file_lengths() -> dict[str, int]:
    """Lines of every file of the package."""
    return {str(p.relative_to(PACKAGE)): s.count("\n") for p, s in sources().items()}


def constructor_sizes() -> dict[str, int]:
    """Count the constructor parameters of every public detector."""
    import skgenad

    things = {name: getattr(skgenad, name) for name in skgenad.__all__}
    return {
        name: len(inspect.signature(thing).parameters)
        for name, thing in things.items()
        if inspect.isclass(thing) and hasattr(thing, "fit")
    }


def quantile(values: list[int], share: float) -> int:
    """Smallest value that at least `share` of the values do not exceed."""
    return sorted(values)[max(0, -(-int(share * 100) * len(values) // 100) - 1)]


def main() -> None:
    """Print the tables."""
    rooms: dict[str, list[int]] = {}
    for name, n in file_lengths().items():
        rooms.setdefault(name.partition("/")[0].removesuffix(".py"), []).append(n)
    print("room: files, lines")
    for room, sizes in sorted(rooms.items()):
        print(f"  {room}: {len(sizes)}, {sum(sizes)}")
    print("imports between rooms: names")
    for (room, target), n in sorted(imports_between_rooms().items()):
        print(f"  {room} -> {target}: {n}")
    sizes = constructor_sizes()
    print("constructor parameters")
    for name, n in sorted(sizes.items()):
        print(f"  {name}: {n}")
    values = list(sizes.values())
    print(f"  median {statistics.median(values)}, most {max(values)}, in all {sum(values)}")
    lengths = list(function_lengths().values())
    ninth = quantile(lengths, 0.9)
    print(f"functions: {len(lengths)}, lines: median {statistics.median(lengths)}, 90 % {ninth}")
    print(f"  longest {max(lengths)}")
    print("files over 450 lines")
    for name, n in file_lengths().items():
        if n > 450:
            print(f"  {name}: {n}")


if __name__ == "__main__":
    main()
