"""What is documented is what is there, for every public object, found and not listed."""

import dataclasses
import importlib
import inspect
import pkgutil
import re

import numpy as np
import pandas as pd
import pytest
from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate

import skgenad
from skgenad._core.contract import BaseDetector
from skgenad._core.parts import Part

# Checks of `numpydoc.validate` that must pass; the others are matters of taste.
CHECKS = {
    "GL07": "sections in the usual order",
    "GL08": "there is a docstring",
    "SS01": "it has a summary",
    "PR01": "every parameter is documented",
    "PR02": "every documented parameter exists",
    "PR03": "in the order of the signature",
    "PR04": "with a type",
    "PR07": "and a description",
    "RT01": "what is returned is documented",
    "RT03": "with a description",
    "EX01": "there is an example",
}
ONLY_FOR_OBJECTS = {"EX01"}  # the class's example shows its methods
CONDITIONAL = re.compile(r"\bonly (if|when|with|after|where)\b", re.IGNORECASE)


def namespaces():
    """Yield ``skgenad`` and its public modules."""
    yield skgenad
    for info in pkgutil.iter_modules(skgenad.__path__, "skgenad."):
        if not info.name.rpartition(".")[2].startswith("_"):
            yield importlib.import_module(info.name)


def public_objects():
    """Map the dotted path of every public class and function to the object, once each."""
    found = {}
    for module in namespaces():
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if (inspect.isclass(thing) or inspect.isroutine(thing)) and thing not in found.values():
                found[f"{module.__name__}.{name}"] = thing
    return found


OBJECTS = public_objects()


def is_ours(member):
    """Tell whether a member of a class is a method or property that is written in this package."""
    function = member.fget if isinstance(member, property) else member
    module = getattr(function, "__module__", None) or ""
    return inspect.isroutine(function) and module.startswith("skgenad")


METHODS = [
    f"{path}.{name}"
    for path, thing in OBJECTS.items()
    if inspect.isclass(thing)
    for name, member in inspect.getmembers(thing)
    if not name.startswith("_") and is_ours(member)
]
DETECTORS = [
    thing
    for thing in OBJECTS.values()
    if inspect.isclass(thing) and issubclass(thing, BaseDetector)
]
PARTS = [thing for thing in OBJECTS.values() if inspect.isclass(thing) and issubclass(thing, Part)]
TWO_SCREENS = 120  # lines


def failed_checks(path, checks):
    errors = validate(path)["errors"]
    return [f"{code}: {message}" for code, message in errors if code in checks]


def checks_for(thing):
    """Leave out what makes no sense for errors, and for results that only this package makes."""
    checks = set(CHECKS)
    if inspect.isclass(thing) and issubclass(thing, Exception):
        checks -= {"EX01"}
    if dataclasses.is_dataclass(thing) and not ClassDoc(thing)["Parameters"]:
        fields = {field.name for field in dataclasses.fields(thing)}
        if fields <= documented_attributes(thing).keys():
            checks -= {"PR01"}
    return checks


def test_every_public_module_names_what_is_public():
    # Modules of one method each are read through `skgenad` itself.
    methods = {detector.__module__ for detector in DETECTORS}
    silent = [m.__name__ for m in namespaces() if not hasattr(m, "__all__")]
    assert set(silent) <= methods
    assert DETECTORS


@pytest.mark.parametrize("path", OBJECTS)
def test_documentation_matches_signature(path):
    assert failed_checks(path, checks_for(OBJECTS[path])) == []


@pytest.mark.parametrize("path", METHODS)
def test_method_documentation_matches_signature(path):
    assert failed_checks(path, CHECKS.keys() - ONLY_FOR_OBJECTS) == []


def documented_attributes(cls):
    """Map the names of the section Attributes to their descriptions."""
    entries = ClassDoc(cls, config={"show_class_members": False})["Attributes"]
    return {
        name.strip(): " ".join(entry.desc) for entry in entries for name in entry.name.split(",")
    }


def fitted_attributes(detector):
    """Return the public names with a trailing underscore that `detector` really has."""
    names = {name for name in dir(detector) if name.endswith("_") and not name.startswith("_")}
    return {name for name in names if hasattr(detector, name)}


@pytest.mark.parametrize("cls", DETECTORS, ids=lambda cls: cls.__name__)
def test_documented_attributes_are_those_of_a_fitted_detector(cls):
    from tests._settings import TINY

    X = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=["a", "b", "c"])
    detector = cls(**{**TINY[cls.__name__], "random_state": 0}).fit(X)
    documented, fitted = documented_attributes(cls), fitted_attributes(detector)
    absent = {name for name in documented.keys() - fitted if name.endswith("_")}
    assert fitted - documented.keys() == set()
    assert {name for name in absent if not CONDITIONAL.search(documented[name])} == set()


@pytest.mark.parametrize("cls", DETECTORS + PARTS, ids=lambda cls: cls.__name__)
def test_docstring_of_a_detector_or_its_parts_fits_two_screens(cls):
    assert len(inspect.getdoc(cls).splitlines()) <= TWO_SCREENS


# What means the same everywhere; the other names that detectors share differ in a word.
SAME = """contamination calibration_fraction device callbacks offset_ units_ calibration_scores_
seed_ device_ n_features_in_ feature_names_in_""".split()


def texts_of(name, classes):
    """Texts, each with its type, that parameters or attributes of one name have."""
    docs = [ClassDoc(cls, config={"show_class_members": False}) for cls in classes]
    entries = [entry for doc in docs for entry in doc["Parameters"] + doc["Attributes"]]
    return [(entry.type, *entry.desc) for entry in entries if entry.name == name]


@pytest.mark.parametrize("name", SAME)
def test_what_all_detectors_share_has_one_text(name):
    texts = texts_of(name, DETECTORS)
    assert len(texts) > 10 and len(set(texts)) == 1


class _Documented:
    """Do nothing.

    Parameters
    ----------
    b : int
        Something.

    Attributes
    ----------
    here_ : int
        Always.
    there_ : int
        Only with a parameter.
    """

    def __init__(self, a):
        self.here_ = a
        self.hidden_ = a


def test_checks_see_a_wrong_docstring():
    found = " ".join(failed_checks(f"{__name__}._Documented", CHECKS.keys()))
    assert all(code in found for code in ("PR01", "PR02", "EX01"))
    assert documented_attributes(_Documented).keys() == {"here_", "there_"}
    assert fitted_attributes(_Documented(1)) == {"here_", "hidden_"}
