"""What files hold of adapters beside what they hold of other detectors."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from skgenad._core.registry import brief
from skgenad._core.state import (
    PARAMETERS,
    SHARED,
    Fitted,
    model_field,
    units_of_file,
    units_to_file,
)
from skgenad._core.units import StandardUnits


def _draws_from(kept: Any, detector: Any) -> str:
    if kept not in ("nothing", "torch", "all"):
        raise ValueError(f"scoring draws from {brief(kept)}")
    return kept


def _units(kept: Any, detector: Any) -> StandardUnits | None:
    return None if kept is None else units_of_file(kept, StandardUnits, detector.n_features_in_)


def _response(kept: Any, detector: Any) -> str:
    if kept not in RESPONSES:
        raise ValueError(f"a classifier that answers with {brief(kept)}")
    return kept


def _odds(kept: Any, detector: Any) -> float:
    if not isinstance(kept, int | float) or not 0 < kept < math.inf:
        raise ValueError(f"odds of {brief(kept)}")
    return float(kept)


# What scores of a `DiscriminativeRatio` come from.
RESPONSES = ("log odds", "probability", "margin")
_DRAWS = Fitted("_draws_from", str, _draws_from)
PYOD = (
    PARAMETERS,
    *(
        field
        for field in SHARED
        if field.name in ("n_features_in_", "feature_names_in_", "offset_", "_reference")
    ),
    *(replace(field, optional=True) for field in SHARED if field.name == "calibration_scores_"),
    _DRAWS,
    model_field("detector_"),
)
_UNITS = Fitted("_units", lambda units: None if units is None else units_to_file(units), _units)
SCORES = (
    PARAMETERS,
    *SHARED,
    _UNITS,
    _DRAWS,
    model_field("estimator_"),
)
RATIO = (
    PARAMETERS,
    *SHARED,
    _UNITS,
    _DRAWS,
    Fitted("prior_odds_", float, _odds),
    Fitted("response_", str, _response),
    model_field("classifier_"),
)
