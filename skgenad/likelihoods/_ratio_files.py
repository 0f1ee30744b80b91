"""What a file holds of a likelihood ratio: its parameters, and the documents of its two models."""

from __future__ import annotations

from typing import Any

from skgenad._core.rows import Shape, row_shape
from skgenad._core.state import PARAMETERS, SHARED, Fitted, model_field

from ._png import PNGModel
from ._ratio_models import check_scales


def _shape_of_file(kept: Any, detector: Any) -> Shape | None:
    return None if kept is None else row_shape(kept, detector.n_features_in_)  # type: ignore[return-value]


def _general_of_file(kept: Any, detector: Any) -> Any:
    if kept == "png":
        if detector._image_shape is None:
            raise ValueError("images of no shape as PNG files")
        return PNGModel(detector._image_shape)
    return _GENERAL.read(kept, detector)


_GENERAL = model_field("general_")
TABLE = (
    PARAMETERS,
    *SHARED,
    Fitted("_image_shape", lambda shape: None if shape is None else list(shape), _shape_of_file),
    model_field("detector_"),
    Fitted(
        "general_",
        lambda model: "png" if isinstance(model, PNGModel) else _GENERAL.write(model),
        _general_of_file,
    ),
)


def check_models(ratio: Any) -> None:
    """Raise ValueError unless both models have log densities of the ratio's columns."""
    for model in (ratio.detector_, ratio.general_):
        if not hasattr(model, "log_density"):
            raise ValueError(f"a {type(model).__name__}, which has no log density")
        columns = getattr(model, "n_features_in_", ratio.n_features_in_)
        if columns != ratio.n_features_in_:
            raise ValueError(f"a model for {columns} of {ratio.n_features_in_} columns")
    check_scales(ratio.score_type, ratio.detector_, ratio.general_)
