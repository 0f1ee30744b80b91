"""What files hold of adapters beside what they hold of other detectors."""

from __future__ import annotations

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
SCORES = (
    PARAMETERS,
    *SHARED,
    Fitted("_units", lambda units: None if units is None else units_to_file(units), _units),
    _DRAWS,
    model_field("estimator_"),
)
