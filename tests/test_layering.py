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

# The table. A module may import modules of lower layers, and of its own where `SIDEWAYS` says so.
# A subpackage counts as one module. `skgenad/__init__.py` imports what it likes and is open to
# layer 4 only: the layers below it must not know the public names.
TENSORS = (
    "_augmentation _composite _convnets _couplings _cuda_graphs _densities _device _distances "
    "_energies _factories _flow_layers _flows _hsic _kernels _langevin _logistics _moments _nce "
    "_negatives _networks _objectives _patch_networks _patches _pixelcnn _png _random "
    "_recovery _scaling"
)
LAYERS = {
    0: {"_extras", *TENSORS.split()},
    1: {"_training"},
    2: {
        "_base",
        "_contract",
        "_energy_based",
        "_external",
        "_files",
        "_flow_detector",
        "_grid",
        "_images",
        "_reconstruction",
        "_outliers",
        "_sampling",
    },
    3: {
        "autoencoder",
        "cance",
        "mpdr",
        "dagmm",
        "ebm",
        "glow",
        "mahalanobis",
        "nae",
        "normalizing_flow",
        "pixelcnn",
        "pwae",
        "vae",
        "wae",
    },
    4: {
        "analysis",
        "metrics",
        "datasets",
        "benchmark",
        "compat",
        "inspection",
        "likelihood_ratio",
        "preprocessing",
        "_pyod_interface",
    },
}
SIDEWAYS = {0, 2, 4}  # layer 3 is not among them: what two methods share moves down

# Third-party packages by layer; each layer may use those of the layers below, too.
THIRD_PARTY = {
    0: {"torch", "numpy"},
    1: {"skorch", "tqdm", "pandas"},
    2: {"sklearn", "scipy", "safetensors"},
    3: set(),
    4: set(),
}
# Single modules that may use a bit more than their layer.
ALSO = {"_random": {"sklearn.utils"}}
# Modules that subclass what an optional package defines; they are imported in calls only.
OPTIONAL_MODULES = {"_pyod_interface": {"pyod"}, "benchmark._app": {"typer"}}
# Who seeds global generators, in a fork that puts them back: pyod's detectors know no other way.
FORKS = {"_random": {"torch"}, "compat": {"numpy", "torch"}}

LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}
IMPORT_NAMES = {"scikit-learn": "sklearn", "scikit-posthocs": "scikit_posthocs", "pillow": "PIL"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def import_names(requirements: list[str]) -> set[str]:
    distributions = [re.match(r"[\w.-]+", requirement)[0] for requirement in requirements]
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in distributions}


CORE = import_names(PROJECT["dependencies"])
EXTRAS = {extra: import_names(names) for extra, names in PROJECT["optional-dependencies"].items()}
ALWAYS_THERE = {"joblib", "filelock"}  # scikit-learn and torch cannot do without
ALL_EXTRAS = EXTRAS["bench"] | EXTRAS["dask"] | EXTRAS["flows"] | EXTRAS["images"]
OPTIONAL = ALL_EXTRAS - CORE - ALWAYS_THERE
DECLARED = CORE | ALL_EXTRAS


class Import(NamedTuple):
    """One imported name, absolute; `lazy` if it runs only in a call or for the type checker."""

    name: str
    line: int
    lazy: bool


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
    path = ["skgenad", *module.split(".")] if module != "__init__" else ["skgenad"]
    package = path if is_package or module == "__init__" else path[:-1]
    for node, lazy in walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            parent = ".".join([*base, *filter(None, [node.module])])
            found += [Import(f"{parent}.{alias.name}", node.lineno, lazy) for alias in node.names]
    return found


def unit_of(name: str) -> str:
    """Return the module of the table that an absolute name below ``skgenad`` belongs to."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYER_OF else "__init__"


def broken_inside(unit: str, imported: Import) -> Iterator[str]:
    target = unit_of(imported.name)
    for optional in OPTIONAL_MODULES:
        if f"{imported.name}.".startswith(f"skgenad.{optional}.") and not imported.lazy:
            yield f"line {imported.line}: optional {optional} is imported with the module"
    if target == unit or unit == "__init__":
        return
    layer = LAYER_OF[unit]
    if target == "__init__":
        if layer < 4:
            yield f"line {imported.line}: layer {layer} imports {imported.name}, public or unknown"
    elif LAYER_OF[target] > layer:
        yield f"line {imported.line}: layer {layer} imports {target} of layer {LAYER_OF[target]}"
    elif LAYER_OF[target] == layer and layer not in SIDEWAYS:
        yield f"line {imported.line}: a method imports another method, {target}"


def broken_outside(module: str, imported: Import) -> Iterator[str]:
    unit = module.partition(".")[0]
    top = imported.name.partition(".")[0]
    if top not in DECLARED:
        yield f"line {imported.line}: {top} is no declared dependency"
    optional = OPTIONAL - OPTIONAL_MODULES.get(module, set())
    if top in optional and not imported.lazy:
        yield f"line {imported.line}: optional {top} is imported with the module"
    layer = LAYER_OF.get(unit, 4)
    allowed = {name for low in range(layer + 1) for name in THIRD_PARTY[low]}
    if layer < 4 and top not in allowed:
        if not any(f"{imported.name}.".startswith(f"{name}.") for name in ALSO.get(unit, ())):
            yield f"line {imported.line}: layer {layer} imports {top}"


def broken_calls(unit: str, source: str) -> Iterator[str]:
    """Yield calls that print, that touch global state, or name the wrong extra."""
    for node, lazy in walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called == "print" or called.endswith("set_num_threads"):
            yield f"line {node.lineno}: calls {called}"
        forks = FORKS.get(unit, ())
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
    unit = module.partition(".")[0]
    if unit != "__init__" and unit not in LAYER_OF:
        return [f"{unit} is in no layer: give it one in LAYERS"]
    found = list(broken_calls(unit, source))
    for imported in imports_of(module, source, is_package):
        top = imported.name.partition(".")[0]
        if top == "skgenad":
            found += broken_inside(unit, imported)
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


def test_table_names_existing_modules_once():
    names = sorted(name for layer in LAYERS.values() for name in layer)
    existing = {module_name(path).partition(".")[0] for path in FILES} - {"__init__"}
    assert names == sorted(existing)


def test_no_module_imports_itself_through_others():
    graph: dict[str, set[str]] = {}
    for path in FILES:
        name = module_name(path)
        imports = imports_of(name, path.read_text(), path.name == "__init__.py")
        ours = {
            unit_of(i.name) for i in imports if i.name.split(".")[0] == "skgenad" and not i.lazy
        }
        unit = name.partition(".")[0]
        graph.setdefault(unit, set()).update(ours - {unit})
    while free := {unit for unit, targets in graph.items() if not targets & graph.keys()}:
        graph = {unit: targets for unit, targets in graph.items() if unit not in free}
    assert not graph, f"import cycle among {sorted(graph)}"


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("_langevin", "from skgenad._training import Stage", "layer 0 imports _training"),
        ("_langevin", "from ._training import Stage", "layer 0 imports _training"),
        ("_langevin", "from . import mpdr", "layer 0 imports mpdr of layer 3"),
        ("_langevin", "def f():\n    import skgenad.mpdr", "line 2: layer 0 imports mpdr"),
        ("_langevin", "import sklearn", "layer 0 imports sklearn"),
        ("_langevin", "from sklearn.utils import check_random_state", "layer 0 imports sklearn"),
        ("_random", "from sklearn.base import clone", "layer 0 imports sklearn"),
        ("_training", "from skgenad import MPDR", "layer 1 imports skgenad.MPDR, public"),
        ("_training", "import sklearn", "layer 1 imports sklearn"),
        ("_base", "from skgenad.metrics import x", "layer 2 imports metrics of layer 4"),
        ("mpdr", "from skgenad.autoencoder import Autoencoder", "another method, autoencoder"),
        ("mpdr", "from .autoencoder import Autoencoder", "another method, autoencoder"),
        ("mpdr", "import matplotlib", "layer 3 imports matplotlib"),
        ("mpdr", "def f():\n    import matplotlib", "layer 3 imports matplotlib"),
        ("metrics", "import pooch", "optional pooch is imported with the module"),
        ("metrics", "try:\n    import pooch\nexcept ImportError: pass", "optional pooch"),
        ("metrics", "class A:\n    import pooch", "optional pooch"),
        ("benchmark.cli", "import typer", "optional typer is imported with the module"),
        ("benchmark.cli", "def f():\n    import lightning", "lightning is no declared dependency"),
        ("benchmark", "from skgenad._extras import x\nprint(x)", "line 2: calls print"),
        ("_training", "import torch\ntorch.set_num_threads(1)", "calls torch.set_num_threads"),
        ("mpdr", "import numpy as np\nx = np.random.randn(3)", "numpy's global generator"),
        ("mpdr", "import torch\ntorch.manual_seed(0)", "line 2: seeds torch"),
        ("mpdr", "import warnings\nwarnings.simplefilter('ignore')", "a warning filter on import"),
        ("metrics", "require('pooch', extra='dask')", "extra dask does not install pooch"),
        ("glow", "import zuko", "optional zuko is imported with the module"),
        ("glow", "require('zuko', extra='bench')", "extra bench does not install zuko"),
        ("metrics", "require('pooch', 'plots')", "extra plots does not install pooch"),
        ("compat", "from ._pyod_interface import X", "optional _pyod_interface is imported"),
        ("compat", "from . import _pyod_interface", "optional _pyod_interface is imported"),
        ("compat", "from pyod.models.knn import KNN", "optional pyod is imported"),
        ("novelty", "", "novelty is in no layer"),
        ("__init__", "import dask", "optional dask is imported with the module"),
    ],
)
def test_rules_catch_a_bad_module(module, source, complaint):
    found = violations(module, source)
    assert any(complaint in line for line in found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("_random", "from sklearn.utils import check_random_state"),
        ("_langevin", "from skgenad._networks import mlp"),
        ("_training", "import skorch\nfrom tqdm.auto import tqdm\nfrom ._random import seeded"),
        ("_base", "from ._files import save\nfrom sklearn.base import BaseEstimator"),
        ("mpdr", "from ._base import BaseGenerativeDetector\nfrom . import _langevin"),
        ("metrics", "from skgenad import MPDR"),
        ("benchmark.cli", "from .runner import run\nfrom skgenad.datasets import list_adbench"),
        ("benchmark.cli", "def main():\n    import typer"),
        ("benchmark.cli", "if TYPE_CHECKING:\n    import typer"),
        ("benchmark.cli", "from .._extras import require\ntyper = require('typer', extra='bench')"),
        ("benchmark", "import warnings\ndef f():\n    warnings.simplefilter('ignore')"),
        ("benchmark._app", "import typer"),
        ("_pyod_interface", "from pyod.models.base import BaseDetector"),
        ("compat", "def f():\n    from ._pyod_interface import X"),
        ("__init__", "from .mpdr import MPDR\nfrom skgenad import datasets"),
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
