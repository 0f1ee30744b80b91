import importlib
import sys

import pytest

from skgenad._extras import require


def test_require_returns_the_module_itself():
    assert require("os.path", extra="bench") is importlib.import_module("os.path")


@pytest.mark.parametrize("module", ["pooch", "matplotlib.pyplot"])
@pytest.mark.parametrize("extra", ["bench", "dask"])
def test_missing_package_names_the_extra_to_install(monkeypatch, module, extra):
    top_level = module.partition(".")[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == top_level]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(
        ImportError, match=rf'{top_level}.*pip install "skgenad\[{extra}\]"'
    ) as info:
        require(module, extra=extra)
    assert info.value.name == top_level


def test_error_inside_an_installed_package_is_not_disguised(tmp_path, monkeypatch):
    (tmp_path / "skgenad_broken.py").write_text("import skgenad_gone")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="skgenad_gone"):
        require("skgenad_broken", extra="bench")


def test_missing_submodule_of_an_installed_package_is_not_disguised():
    with pytest.raises(ModuleNotFoundError, match=r"json\.gone"):
        require("json.gone", extra="bench")
