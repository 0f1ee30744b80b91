"""Parameters in objects: defaults, shorthands, nested names, for every detector that has them."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.parts import (
    Part,
    Slot,
    WithParts,
    copied,
    differs_from_default,
    refuse_unused,
)
from skgenad.metrics import NormalOnlyCV, anomaly_roc_auc

from ._settings import DETECTORS, normal_rows, tiny


class Engine(Part):
    """A part of two fields, each of which may be the owner's own."""

    _parameter_constraints = {"power": [int, None], "fuel": [str, None]}

    def __init__(self, power=None, *, fuel=None):
        self.power = power
        self.fuel = fuel


class Rocket(Part):
    """Another part, with a part of its own."""

    _parts = {"booster": Slot(Engine(9))}
    _parameter_constraints = {"booster": [Engine, None]}

    def __init__(self, booster=None):
        self.booster = booster


def read(value):
    return Engine(value) if isinstance(value, int) else Rocket() if value == "rocket" else value


class Car(WithParts):
    """What has an engine, unless asked otherwise one of 50 horses that takes petrol."""

    _parts = {"engine": Slot(Engine(50, fuel="petrol"), read)}

    def __init__(self, engine=None):
        self.engine = engine


PARTED = [detector for detector in DETECTORS if detector._parts]
SLOTS = [(detector, name) for detector in PARTED for name in detector._parts]
every_slot = pytest.mark.parametrize(
    ("detector", "name"), SLOTS, ids=[f"{d.__name__}-{name}" for d, name in SLOTS]
)


# ---- what a part is -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, Engine(50, fuel="petrol")),
        (70, Engine(70, fuel="petrol")),
        (Engine(fuel="diesel"), Engine(50, fuel="diesel")),
        (Engine(60, fuel="gas"), Engine(60, fuel="gas")),
        ("rocket", Rocket()),
        (3.5, 3.5),
    ],
    ids=str,
)
def test_fields_that_are_none_are_the_owners_own(given, wanted):
    assert Car(given).part("engine") == wanted


def test_asking_for_a_part_changes_neither_what_was_given_nor_the_default():
    engine = Engine()
    part = Car(engine).part("engine")
    part.power = 1
    assert engine.power is None and Car().part("engine").power == 50


def test_parts_compare_by_value_and_class():
    assert Engine(3) == Engine(3) and Engine(3) != Engine(4)
    assert Engine() != Rocket() and Rocket(Engine(1)) == Rocket(Engine(1))


def test_an_invalid_field_is_named():
    with pytest.raises(ValueError, match="'power' parameter of Engine must be"):
        Car(Engine("much")).part("engine")


def test_a_field_that_the_owner_has_no_use_for_is_refused():
    class Bicycle(Car):
        _parts = {"engine": Slot(Engine(0), read, without=("fuel",))}

        def __init__(self, engine=None):
            self.engine = engine

    assert Bicycle(Engine(1)).part("engine") == Engine(1)
    with pytest.raises(ValueError, match="Bicycle has no use for fuel there. Leave it None"):
        Bicycle(Engine(1, fuel="gas")).part("engine")


# ---- get_params and set_params --------------------------------------------------------------


@pytest.mark.parametrize("given", [None, 70, Engine(60), Engine()], ids=str)
def test_fields_are_found_whatever_was_given(given):
    names = set(Car(given).get_params())
    assert names == {"engine", "engine__power", "engine__fuel"}
    assert set(Car(given).get_params(deep=False)) == {"engine"}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [(None, Engine(fuel="gas")), (70, Engine(70, fuel="gas")), (Engine(6), Engine(6, fuel="gas"))],
    ids=str,
)
def test_setting_a_field_keeps_the_others(given, wanted):
    assert Car(given).set_params(engine__fuel="gas").engine == wanted


def test_a_part_and_its_field_can_be_set_at_once():
    assert Car().set_params(engine=80, engine__fuel="gas").engine == Engine(80, fuel="gas")
    assert Car().set_params(engine__booster__power=3, engine="rocket").engine == Rocket(Engine(3))


def test_setting_a_field_of_one_leaves_others_alone():
    Car().set_params(engine__power=1)
    assert Car().part("engine").power == 50 and Engine().power is None


def test_a_part_that_two_share_is_not_changed_for_the_other():
    shared = Engine(60)
    one, other = Car(shared), Car(shared)
    one.set_params(engine__power=1)
    assert one.engine == Engine(1) and other.engine is shared and shared == Engine(60)


def test_a_field_set_to_none_makes_no_part():
    assert Car().set_params(engine__power=None, engine__fuel=None).engine is None
    assert Car(70).set_params(engine__power=None).engine == Engine()


@pytest.mark.parametrize("bad", [{"engine__bogus": 3}, {"engine": 70, "wheels": 3}], ids=str)
def test_what_is_refused_leaves_no_trace(bad):
    car = Car()
    with pytest.raises(ValueError, match="Invalid parameter"):
        car.set_params(**bad)
    assert car.engine is None


def test_a_class_in_place_of_an_object_is_refused():
    with pytest.raises(ValueError, match=r"engine=Engine is a class: pass an object, such as Eng"):
        Car(Engine).part("engine")
    with pytest.raises(ValueError, match="has no parameters of its own to set"):
        Car(Engine).set_params(engine__power=3)


class Fuel:
    """An object of the user's, which parts hold and never copy."""


def test_objects_of_the_users_are_kept_themselves():
    fuel = Fuel()
    assert copied(Rocket(Engine(fuel=fuel))).booster.fuel is fuel
    assert Engine(fuel=fuel).filled(Engine(3)).fuel is fuel
    sizes = [1, [2]]
    twin = copied(sizes)
    sizes[1].append(3)
    assert twin == [1, [2]]


def test_a_field_of_what_has_none_is_refused():
    with pytest.raises(ValueError, match=r"engine=3.5 has no parameters.*such as Engine\(\)"):
        Car(3.5).set_params(engine__power=1)
    car = Car(3.5).set_params(engine=70, engine__fuel="gas")
    assert car.engine == Engine(70, fuel="gas")


@pytest.mark.parametrize("name", ["engine__wings", "wings__power"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(ValueError, match=r"Invalid parameter 'wings'"):
        Car().set_params(**{name: 1})


# ---- parameters without effect --------------------------------------------------------------


@pytest.mark.parametrize("value", [7, Engine(1)], ids=str)
def test_a_parameter_without_effect_is_refused_once_it_is_set(value):
    refuse_unused(Car(), ("engine",), "it rolls downhill")
    with pytest.raises(ValueError, match="engine=.* would be ignored: it rolls downhill"):
        refuse_unused(Car(value), ("engine",), "it rolls downhill")


def is_default(default, value):
    class Thing(WithParts):
        def __init__(self, x=default):
            self.x = x

    return not differs_from_default(Thing(value), "x")


@pytest.mark.parametrize(
    ("default", "value"),
    [
        (1, np.int64(1)),
        (1000, 1000.0),
        (0.5, np.float32(0.5)),
        (True, np.bool_(True)),
        ((1, 2), [1, 2]),
        (None, Engine()),
        (None, None),
        ("auto", "auto"),
    ],
    ids=str,
)
def test_the_value_of_a_default_in_another_form_is_the_default(default, value):
    assert is_default(default, value)


@pytest.mark.parametrize(
    ("default", "value"),
    [(1, 2), (0.1, 0.2), (True, 1), (False, None), ((1,), [1, 1]), (None, Engine(3)), ("a", "b")],
    ids=str,
)
def test_another_value_than_the_default_is_none(default, value):
    assert not is_default(default, value)


# ---- every detector -------------------------------------------------------------------------


@pytest.mark.parametrize("detector", DETECTORS)
def test_setting_the_parameters_that_are_there_changes_nothing(detector):
    X, again = normal_rows(), tiny(detector)
    again.set_params(**again.get_params())
    assert (again.fit(X).score_samples(X) == tiny(detector).fit(X).score_samples(X)).all()


@every_slot
def test_the_fields_of_a_default_are_listed_and_can_be_set(detector, name):
    assert getattr(detector(), name) is None or isinstance(getattr(detector(), name), str)
    fields = [key for key in detector().get_params() if key.startswith(f"{name}__")]
    assert fields
    default = detector().part(name)
    for field in fields:
        if field.count("__") > 1:  # of a part of the part
            continue
        key, value = field.split("__")[1], getattr(default, field.split("__")[1], None)
        changed = detector().set_params(**{field: value})
        assert isinstance(getattr(changed, name), Part) or value is None
        assert getattr(changed.part(name), key) == getattr(default, key)


@every_slot
def test_a_shorthand_a_clone_and_a_pickle_of_a_part_are_the_same(detector, name):
    part = tiny(detector).part(name)
    if not isinstance(part, Part):
        pytest.skip("not a part with these settings")
    given = tiny(detector, **{name: part})
    for twin in (clone(given), pickle.loads(pickle.dumps(given))):
        assert getattr(twin, name) == part and getattr(twin, name) is not part
        assert twin.get_params() == given.get_params()


@pytest.mark.parametrize("detector", PARTED)
def test_a_fitted_detector_keeps_the_parts_of_its_fit(detector, tmp_path):
    X = normal_rows()
    fitted = tiny(detector).fit(X)
    scores, path = fitted.score_samples(X), tmp_path / "detector"
    for name in detector._parts:
        for key in list(fitted.get_params()):
            if key.startswith(f"{name}__") and key.count("__") == 1:
                fitted.set_params(**{key: None})
    fitted.save(path)
    assert (BaseGenerativeDetector.load(path).score_samples(X) == scores).all()


@pytest.mark.parametrize("detector", PARTED)
def test_nested_names_show_in_repr_and_html(detector):
    changed = tiny(detector)
    for name in detector._parts:
        part = changed.part(name)
        changed.set_params(**{name: part})
        assert type(part).__name__ in repr(changed)
        assert type(part).__name__ in changed._repr_html_()


def search_data():
    X = normal_rows(70)
    X[60:] += 20 * X.std(axis=0)
    return X, [0] * 60 + [1] * 10


@pytest.mark.parametrize("search", [GridSearchCV, RandomizedSearchCV])
def test_a_search_finds_nested_names_through_a_pipeline(search):
    from skgenad.networks import MLP

    grid = {
        "mpdr__visible_chain__noise": [0.1, 0.3],
        "mpdr__visible_chain__steps": [1, 2],
        "mpdr__network": [(8,), MLP((4,), activation="tanh")],
    }
    pipeline = make_pipeline(StandardScaler(), tiny("MPDR", visible_chain=None))
    more = {"n_iter": 3, "random_state": 0} if search is RandomizedSearchCV else {}
    found = search(pipeline, grid, scoring=anomaly_roc_auc, cv=NormalOnlyCV(2), **more)
    X, y = search_data()
    found.set_params(error_score="raise").fit(X, y)
    best = found.best_params_
    chain = found.best_estimator_[-1].visible_chain
    assert (chain.noise, chain.steps) == (
        best["mpdr__visible_chain__noise"],
        best["mpdr__visible_chain__steps"],
    )
    assert len({str(p) for p in found.cv_results_["params"]}) == (8 if not more else 3)
