"""Settings of Sphinx; ``sphinx-build -W docs docs/_build`` builds the pages."""

import re
from pathlib import Path

from sphinx_gallery.sorting import ExplicitOrder

import skgenad

project = "skgenad"
author = "skgenad developers"
project_copyright = "skgenad developers"
release = version = skgenad.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # formulas without the network
    "numpydoc",
    "matplotlib.sphinxext.plot_directive",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "examples"]
default_role = "literal"

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say it in words
# Methods are in the page of their class; a table of links to pages of their own is not wanted.
numpydoc_show_class_members = False

# In the order in which one learns; those that are not named come last.
_GALLERY = (
    *("breast_cancer", "thresholds", "explanation", "committee", "comparison", "mixed_table"),
    *("sentinel", "groups", "search", "label_free", "others", "stream", "series", "sound"),
    *("normal_version", "eight_gaussians", "densities", "samples", "training", "stopping"),
    *("patches", "digit_defects", "textures", "patch_codes"),
)
sphinx_gallery_conf = {
    "within_subsection_order": ExplicitOrder([*(f"plot_{name}.py" for name in _GALLERY), "*"]),
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": "plot_",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
}

# Pictures of the guide: drawn from ``docs/figures.py``, with no link to what drew them.
plot_working_directory = str(Path(__file__).parent)
plot_formats = [("png", 110)]
plot_html_show_formats = plot_html_show_source_link = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_title = f"skgenad {release}"


_MARKUP = re.compile(r"[|]|_(?=,\))|(?<=, )\*(?=\w)")


def _escape(app, what, name, obj, options, lines):
    """Escape what is text in docstrings but markup to docutils: ``|x|``, ``name_``, ``*x``."""
    literal = None  # how far the line is indented below which code stands as it is
    for i, line in enumerate(lines):
        margin = len(line) - len(line.lstrip())
        if literal is not None and line.strip() and margin <= literal:
            literal = None
        if literal is None and not line.lstrip().startswith((">>>", "...", "..")):
            parts = line.split("`")  # those with an odd index stand between backquotes
            parts[::2] = [_MARKUP.sub(r"\\\g<0>", part) for part in parts[::2]]
            if what in ("method", "property"):  # the references are the class's
                parts[::2] = [re.sub(r"(\[\d+\])_", r"\1", part) for part in parts[::2]]
            lines[i] = "`".join(parts)
            literal = margin if line.endswith("::") else None


def _skip(app, what, name, obj, skip, options):
    """Leave out what scikit-learn and Python give to every class and users rarely call."""
    routing = re.fullmatch(r"set_\w+_request|get_metadata_routing", name)
    return True if routing or name in ("set_output", "with_traceback", "add_note") else None


def setup(app):
    """Escape before numpydoc turns sections of docstrings into markup."""
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-docstring", _escape, priority=100)
