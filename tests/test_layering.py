"""The architecture, enforced: who may import whom, and what importing must not do."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "skgenad"

# The house: each room (a folder or file of `skgenad/`) and the rooms that it may import. The rooms
# of one floor do not know each other: what two families share moves down.
TOOLS = {"_core", "_extras", "_tensors", "_warn", "networks"}
FAMILIES = {"autoencoders", "energies", "likelihoods", "neighbors"}
MAY_IMPORT = {
    "_extras": set(),
    "_tensors": set(),
    "_version": set(),
    "_warn": set(),
    "_writing": set(),
    "_core": {"_extras", "_tensors", "_version", "_warn", "_writing"},
    "networks": {"_tensors", "_core"},
    **{family: TOOLS for family in FAMILIES},
    "committee": TOOLS | FAMILIES,
    "aggregation": TOOLS | {"committee", "likelihoods"},
    "preprocessing": TOOLS | {"_writing"},
    "analysis": TOOLS,
    "inspection": {"_core", "_extras", "metrics"},
    # An adapter that gives estimators of others the contract is built on the contract.
    "compat": {"_core", "_extras", "_tensors"},
    "pipeline": {"_core"},
    "distributed": {"_core", "_extras"},
    "metrics": {"_core", "_extras", "pipeline"},
    "datasets": {"_core", "_extras", "_tensors", "_warn", "_writing", "metrics"},
    "benchmark": {"__init__", "_extras", "_warn", "_writing", "compat", "datasets", "metrics"},
    "__init__": FAMILIES | {"_core", "_version", "aggregation", "committee"},
}
# Third-party packages of the lower rooms; those above use what the package declares.
TENSORS = {"torch", "numpy"}
CORE_PACKAGES = TENSORS | {"skorch", "tqdm", "pandas", "sklearn", "scipy", "safetensors"}
CORE_PACKAGES |= {"threadpoolctl"}
THIRD_PARTY = {
    "_tensors": TENSORS,
    "networks": TENSORS | {"sklearn"},
    "_core": CORE_PACKAGES | {"joblib"},
    **{family: CORE_PACKAGES for family in FAMILIES},
    "committee": CORE_PACKAGES | {"joblib"},
    "aggregation": CORE_PACKAGES,
}
# What annotations name, imported for type checkers alone: no dependency of the package.
ANNOTATIONS = {"_tensors": {"jaxtyping"}}
# Single modules that may use a bit more than their room.
ALSO = {"_tensors.seeds": {"sklearn.utils"}}
# Modules that subclass what an optional package defines; they are imported in calls only.
OPTIONAL_MODULES = {"compat._interface": {"pyod"}, "benchmark._app": {"typer"}}
# Who seeds global generators, in a fork that puts them back: some detectors of pyod, and some
# kernels of GPUs, know no other.
FORKS = {"_tensors.foreign": {"torch"}, "compat._globals": {"numpy", "torch"}}
# Who sets the number of threads: in a process that was forked from one that had several.
THREADS = {"_core.forks"}
# The one module that takes scikit-learn's private pieces.
PRIVATE = {
    "sklearn.base._fit_context",
    "sklearn.tree._tree",
    "sklearn.utils._param_validation",
    "sklearn.utils.metaestimators._BaseComposition",
}
PRIVATE_IN = "_core.checks"

IMPORT_NAMES = {"scikit-learn": "sklearn", "scikit-posthocs": "scikit_posthocs", "pillow": "PIL"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def import_names(requirements: list[str]) -> set[str]:
    distributions = [re.match(r"[\w.-]+", requirement)[0] for requirement in requirements]
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in distributions}


CORE = import_names(PROJECT["dependencies"])
EXTRAS = {extra: import_names(names) for extra, names in PROJECT["optional-dependencies"].items()}
RUNTIME = ("audio", "bench", "dask", "flows", "images", "timm", "transformers", "vision")
ALWAYS_THERE = {"filelock"}  # torch cannot do without
ALL_EXTRAS = set().union(*(EXTRAS[name] for name in RUNTIME))
OPTIONAL = ALL_EXTRAS - CORE - ALWAYS_THERE
DECLARED = CORE | ALL_EXTRAS


class Import(NamedTuple):
    """One imported name, absolute; `lazy` if it runs only in a call or for the type checker.

    `typed` if it runs for the type checker alone.
    """

    name: str
    line: int
    lazy: bool
    typed: bool


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk(node: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Yield every node below `node` and whether importing the module leaves it unexecuted."""
    for child in ast.iter_child_nodes(node):
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        inside = inside or (is_type_checking(node) and child in node.body)
        yield child, inside
        yield from walk(child, inside)


def imports_of(module: str, source: str, is_package: bool = False) -> list[Import]:
    """List the imports of `module`, a dotted name below ``skgenad``, relative ones resolved."""
    found = []
    tree = ast.parse(source)
    blocks = [node for node in ast.walk(tree) if is_type_checking(node)]
    typed = {child for block in blocks for node in block.body for child in ast.walk(node)}
    path = ["skgenad", *module.split(".")] if module != "__init__" else ["skgenad"]
    package = path if is_package or module == "__init__" else path[:-1]
    for node, lazy in walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(a.name, node.lineno, lazy, node in typed) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            parent = ".".join([*base, *filter(None, [node.module])])
            names = [f"{parent}.{alias.name}" for alias in node.names]
            found += [Import(name, node.lineno, lazy, node in typed) for name in names]
    return found


def room_of(name: str) -> str:
    """Return the room that an absolute name below ``skgenad`` lies in."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else "__init__"


def broken_inside(module: str, imported: Import) -> Iterator[str]:
    room, target = module.partition(".")[0], room_of(imported.name)
    for optional in OPTIONAL_MODULES:
        if f"{imported.name}.".startswith(f"skgenad.{optional}.") and not imported.lazy:
            yield f"line {imported.line}: optional {optional} is imported with the module"
    if target != room and target not in MAY_IMPORT[room]:
        yield f"line {imported.line}: {room} imports {imported.name}, which it may not know"


def broken_outside(module: str, imported: Import) -> Iterator[str]:
    room = module.partition(".")[0]
    top = imported.name.partition(".")[0]
    if imported.typed and top in ANNOTATIONS.get(room, ()):
        return
    if top not in DECLARED:
        yield f"line {imported.line}: {top} is no declared dependency"
    optional = OPTIONAL - OPTIONAL_MODULES.get(module, set())
    if top in optional and not imported.lazy:
        yield f"line {imported.line}: optional {top} is imported with the module"
    allowed = THIRD_PARTY.get(room, DECLARED) | (OPTIONAL if room in FAMILIES else set())
    if top not in allowed:
        if not any(f"{imported.name}.".startswith(f"{name}.") for name in ALSO.get(module, ())):
            yield f"line {imported.line}: {room} imports {top}"
    private = any(f"{imported.name}.".startswith(f"{name}.") for name in PRIVATE)
    if private and module != PRIVATE_IN:
        yield f"line {imported.line}: private {imported.name}; take it from {PRIVATE_IN}"


def broken_calls(module: str, source: str) -> Iterator[str]:
    """Yield calls that print, that touch global state, or name the wrong extra."""
    for node, lazy in walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        threads = called.endswith("set_num_threads") and module not in THREADS
        if called == "print" or threads:
            yield f"line {node.lineno}: calls {called}"
        forks = FORKS.get(module, ())
        if re.fullmatch(r"(np|numpy)\.random\.[a-z_]+", called) and "numpy" not in forks:
            if not called.endswith("default_rng"):
                yield f"line {node.lineno}: {called} uses numpy's global generator"
        if re.fullmatch(r"torch\.(random\.)?(manual_)?seed", called) and "torch" not in forks:
            yield f"line {node.lineno}: seeds torch"
        if re.search(r"(simplefilter|filterwarnings)$", called) and not lazy:
            yield f"line {node.lineno}: a warning filter on import"
        if called.rpartition(".")[2] == "require":
            yield from broken_require(node)


def broken_require(node: ast.Call) -> Iterator[str]:
    arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
    values = [getattr(argument, "value", None) for argument in arguments]
    if len(values) == 2 and all(isinstance(value, str) for value in values):
        module, extra = values
        if module.partition(".")[0] not in EXTRAS.get(extra, ()):
            yield f"line {node.lineno}: the extra {extra} does not install {module}"


def violations(module: str, source: str, is_package: bool = False) -> list[str]:
    """List what `module` (dotted name below ``skgenad``) does against the rules of this file."""
    room = module.partition(".")[0]
    if room not in MAY_IMPORT:
        return [f"{room} is no room of the house: give it a line in MAY_IMPORT"]
    found = list(broken_calls(module, source))
    for imported in imports_of(module, source, is_package):
        top = imported.name.partition(".")[0]
        if top == "skgenad":
            found += broken_inside(module, imported)
        elif top not in sys.stdlib_module_names:
            found += broken_outside(module, imported)
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_module_keeps_to_its_layer(path):
    assert violations(module_name(path), path.read_text(), path.name == "__init__.py") == []


def test_table_names_the_rooms_that_there_are():
    assert set(MAY_IMPORT) == {module_name(path).partition(".")[0] for path in FILES}


def test_the_table_of_rooms_has_no_circle():
    left = {room: set(below) for room, below in MAY_IMPORT.items()}
    while free := {room for room, below in left.items() if not below & left.keys()}:
        left = {room: below for room, below in left.items() if room not in free}
    assert not left, f"circle among {sorted(left)}"


def known_modules(name: str) -> str:
    """Return the module that an absolute imported name lies in, without ``skgenad.``."""
    modules = {module_name(path) for path in FILES}
    below = name.removeprefix("skgenad").lstrip(".")
    while below and below not in modules:
        below = below.rpartition(".")[0]
    return below or "__init__"


def test_no_module_imports_itself_through_others():
    graph: dict[str, set[str]] = {}
    for path in FILES:
        name = module_name(path)
        imports = imports_of(name, path.read_text(), path.name == "__init__.py")
        ours = {known_modules(i.name) for i in imports if i.name.split(".")[0] == "skgenad"}
        lazy = {known_modules(i.name) for i in imports if i.lazy} & OPTIONAL_MODULES.keys()
        graph[name] = ours - lazy - {name}
    while free := {unit for unit, targets in graph.items() if not targets & graph.keys()}:
        graph = {unit: targets for unit, targets in graph.items() if unit not in free}
    assert not graph, f"import cycle among {sorted(graph)}"


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("_tensors.maps", "from skgenad._core.loop import Stage", "_tensors imports skgenad._core"),
        ("_tensors.maps", "from .._core.loop import Stage", "_tensors imports skgenad._core"),
        ("_tensors.maps", "def f():\n    import skgenad.energies", "line 2: _tensors imports"),
        ("_tensors.maps", "import sklearn", "_tensors imports sklearn"),
        ("_tensors.maps", "from jaxtyping import Float", "jaxtyping is no declared dependency"),
        ("_tensors.maps", "def f():\n    import jaxtyping", "jaxtyping is no declared dependency"),
        ("_tensors.maps", "from sklearn.utils import check_random_state", "imports sklearn"),
        ("_tensors.seeds", "from sklearn.base import clone", "_tensors imports sklearn"),
        ("_core.loop", "from skgenad import MPDR", "_core imports skgenad.MPDR"),
        (
            "_core.loop",
            "from skgenad.energies._langevin import x",
            "_core imports skgenad.energies",
        ),
        ("_core.loop", "from skgenad.metrics import x", "_core imports skgenad.metrics"),
        ("energies.mpdr", "from skgenad.autoencoders.vae import VAE", "energies imports"),
        ("energies.mpdr", "from ..likelihoods.glow import Glow", "energies imports"),
        ("energies.mpdr", "import matplotlib", "optional matplotlib is imported"),
        ("metrics", "import pooch", "optional pooch is imported with the module"),
        ("metrics", "try:\n    import pooch\nexcept ImportError: pass", "optional pooch"),
        ("metrics", "class A:\n    import pooch", "optional pooch"),
        ("metrics", "from sklearn.base import _fit_context", "take it from _core.checks"),
        ("analysis", "from sklearn.utils._param_validation import Interval", "_core.checks"),
        ("benchmark.cli", "import typer", "optional typer is imported with the module"),
        ("benchmark.cli", "def f():\n    import lightning", "lightning is no declared dependency"),
        ("benchmark", "from skgenad._extras import x\nprint(x)", "line 2: calls print"),
        ("_core.loop", "import torch\ntorch.set_num_threads(1)", "calls torch.set_num_threads"),
        ("energies.mpdr", "import numpy as np\nx = np.random.randn(3)", "global generator"),
        ("energies.mpdr", "import torch\ntorch.manual_seed(0)", "line 2: seeds torch"),
        ("energies.mpdr", "import warnings\nwarnings.simplefilter('ignore')", "a warning filter"),
        ("metrics", "require('pooch', extra='dask')", "extra dask does not install pooch"),
        ("likelihoods.glow", "import zuko", "optional zuko is imported with the module"),
        ("likelihoods.glow", "require('zuko', extra='bench')", "bench does not install zuko"),
        ("metrics", "require('pooch', 'plots')", "extra plots does not install pooch"),
        ("compat", "from ._interface import X", "optional compat._interface is imported"),
        ("compat", "from . import _interface", "optional compat._interface is imported"),
        ("compat", "from pyod.models.knn import KNN", "optional pyod is imported"),
        ("novelty", "", "novelty is no room of the house"),
        ("__init__", "import dask", "optional dask is imported with the module"),
    ],
)
def test_rules_catch_a_bad_module(module, source, complaint):
    found = violations(module, source, is_package="." not in module)
    assert any(complaint in line for line in found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("_tensors.seeds", "from sklearn.utils import check_random_state"),
        ("_tensors.maps", "from skgenad._tensors.seeds import seeded"),
        ("_tensors.maps", "if TYPE_CHECKING:\n    from jaxtyping import Float"),
        ("_core.loop", "import skorch\nfrom tqdm.auto import tqdm"),
        ("_core.loop", "from skgenad._tensors.seeds import seeded"),
        ("_core.checks", "from sklearn.utils._param_validation import Interval"),
        ("_core.detector", "from .files import save\nfrom sklearn.base import BaseEstimator"),
        ("energies.mpdr", "from skgenad._core.detector import X\nfrom . import _langevin"),
        ("energies.mpdr", "from .nae import NAE"),
        ("benchmark", "from skgenad import MPDR"),
        ("benchmark.cli", "from .runner import run\nfrom skgenad.datasets import list_adbench"),
        ("benchmark.cli", "def main():\n    import typer"),
        ("benchmark.cli", "if TYPE_CHECKING:\n    import typer"),
        ("benchmark.cli", "from .._extras import require\ntyper = require('typer', extra='bench')"),
        ("benchmark", "import warnings\ndef f():\n    warnings.simplefilter('ignore')"),
        ("benchmark._app", "import typer"),
        ("compat._interface", "from pyod.models.base import BaseDetector"),
        ("compat._detector", "def f():\n    from ._interface import X"),
        ("__init__", "from .energies.mpdr import MPDR"),
    ],
)
def test_rules_let_a_good_module_pass(module, source):
    assert violations(module, source) == []


# Imported twice: the first time the dependencies do as they like with the process, then everything
# is put into an unusual state, so that setting the usual one shows, too.
PROBE = """
import importlib, json, random, sys, warnings
import numpy, torch

def state():
    return {
        "warning filters": repr(warnings.filters),
        "torch threads": torch.get_num_threads(),
        "torch default type": str(torch.get_default_dtype()),
        "torch generator": torch.random.get_rng_state().tolist(),
        "numpy generator": numpy.random.get_state()[1].tolist(),
        "random generator": random.getstate(),
    }

importlib.import_module("skgenad")
for name in [name for name in sys.modules if name.partition(".")[0] == "skgenad"]:
    del sys.modules[name]
warnings.resetwarnings()
torch.set_num_threads(torch.get_num_threads() + 1)
torch.set_default_dtype(torch.bfloat16)
for seed in (torch.manual_seed, numpy.random.seed, random.seed):
    seed(987654321)
before = state()
importlib.import_module("skgenad")
after = state()
changed = [name for name in before if before[name] != after[name]]
loaded = sorted({name.partition(".")[0] for name in sys.modules})
with open(sys.argv[1], "w") as file:
    json.dump({"changed": changed, "loaded": loaded}, file)
"""


def probe_import(path: Path, report: Path) -> tuple[dict, str]:
    """Import ``skgenad`` from `path` in a fresh Python; return its report and output."""
    code = f"import sys; sys.path.insert(0, {str(path)!r})\n{PROBE}"
    command = [sys.executable, "-c", code, str(report)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=report.parent, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(report.read_text()), done.stdout + done.stderr


def test_import_is_silent_light_and_without_side_effects(tmp_path):
    report, printed = probe_import(ROOT, tmp_path / "report.json")
    assert printed == ""
    assert report["changed"] == []
    # Dependencies load cloudpickle themselves where they find it.
    assert OPTIONAL & set(report["loaded"]) <= {"cloudpickle"}


def test_import_probe_sees_side_effects(tmp_path):
    (tmp_path / "skgenad").mkdir()
    (tmp_path / "skgenad" / "__init__.py").write_text(
        "import numpy, random, torch, typer, warnings\n"
        "print('hello')\n"
        "warnings.simplefilter('ignore', BytesWarning)\n"
        "torch.set_num_threads(1)\n"
        "torch.manual_seed(0), numpy.random.seed(0), random.random()\n"
        "torch.set_default_dtype(torch.float32)\n"
    )
    report, printed = probe_import(tmp_path, tmp_path / "report.json")
    assert "hello" in printed
    assert "typer" in report["loaded"]
    assert len(report["changed"]) == 6
