"""Checks of rows and images; errors say how to make images fit ``image_shape``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.utils.validation import validate_data

from .columns import explained, of_numbers
from .containers import odd_pixels, refuse_nested, unpacked_rows
from .forks import leave_parents_threads
from .large_tables import SomeRows, Table, is_large, pieces_of
from .pictures import Shape, channels_first, is_picture, stacked
from .units import PIXEL_TOLERANCE


def check_image_shape(shape: Sequence[int]) -> Shape:
    """Return (C, H, W); raise ValueError unless `shape` is three integers of at least 1."""
    if len(shape) != 3 or not all(isinstance(n, Integral) and n >= 1 for n in shape):
        raise ValueError(
            f"image_shape={shape!r} must be (channels, height, width), three integers of at least "
            "1; for example (1, 28, 28)."
        )
    channels, height, width = (int(n) for n in shape)
    return channels, height, width


def image_shape_of(parameters: Mapping[str, Any]) -> Shape | None:
    """Shape of the images that a detector's parameters ask for, checked; None for tables."""
    shape = parameters.get("image_shape")
    if shape is not None and parameters["standardize"] in (True, "mixed"):
        raise ValueError(
            f"standardize={parameters['standardize']!r} cannot be combined with image_shape: "
            "pixels stay in [0, 1]. Use standardize='auto', or image_shape=None for rows that are "
            "not images."
        )
    return None if shape is None else check_image_shape(shape)


def validate_rows(
    estimator: Any,
    X: Any,
    *arrays: Any,
    image_shape: Shape | None,
    reset: bool,
    lazily: bool = False,
    **checks: Any,
) -> Any:
    """Check rows, or images that are brought to rows, and `arrays`, as scikit-learn does.

    Pixels come back in the type they have; those of type uint8 are converted chunk by chunk later.
    A large table comes back as :class:`SomeRows` if it may be read `lazily`.
    """
    leave_parents_threads()  # whatever is computed begins here
    if isinstance(X, SomeRows):  # those of a detector of several, which has checked them
        if lazily and image_shape is None and not arrays:
            validate_data(estimator, X[:2], reset=reset, **checks)  # as many columns, unnamed
            return X
        X = X.as_array()
    X = unpacked_rows(X)
    if image_shape is None:
        if not (reset or arrays or checks) and _is_sound(estimator, X):
            return X
        _refuse_pictures(X)
        X = of_numbers(X)
        _refuse_images(X)
        types: list[type] = [np.float64, np.float32]
        try:
            return _checked(estimator, X, arrays, types, lazily, reset=reset, **checks)
        except (TypeError, ValueError, OverflowError) as error:
            if (better := explained(error, X)) is error:
                raise
            raise better from error
    rows = flat_rows(X, image_shape)
    types = [np.float32, np.float64, np.uint8]
    try:
        checked = _checked(estimator, rows, arrays, types, lazily, reset=reset, **checks)
    except ValueError as error:
        if (better := odd_pixels(error, rows)) is error:
            raise
        raise better from error
    rows = checked[0] if arrays else checked
    if rows.shape[1] != math.prod(image_shape):
        raise ValueError(
            f"X has {rows.shape[1]} features, but image_shape={image_shape} means "
            f"{math.prod(image_shape)}. Correct image_shape, or pass images.reshape(n, -1)."
        )
    _check_pixels(rows, getattr(X, "dtype", None))
    return checked


def check_same_columns(name: str, other: Any, estimator: Any) -> None:
    """Raise ValueError unless another estimator was fitted on the columns that this one validated.

    Names are compared where both have them.
    """
    n, n_other = estimator.n_features_in_, other.n_features_in_
    if n_other != n:
        raise ValueError(f"{name} was fitted on {n_other} columns, but X has {n}.")
    ours, theirs = (getattr(e, "feature_names_in_", None) for e in (estimator, other))
    if ours is None or theirs is None or list(ours) == list(theirs):
        return
    place = next(j for j in range(n) if ours[j] != theirs[j])
    said = (
        f"Column {place} of X is {ours[place]!r}, but that of the rows that {name} was fitted on "
        f"is {theirs[place]!r}"
    )
    if set(ours) == set(theirs):
        raise ValueError(
            f"{said}: X has its columns in another order. Pass X[{name}.feature_names_in_]."
        )
    missing = [column for column in theirs.tolist() if column not in set(ours)]
    raise ValueError(
        f"{said}. X lacks {', '.join(map(repr, missing[:3]))}"
        f"{' and more' if len(missing) > 3 else ''}, which {name} knows: rename its "
        f"columns if they mean the same, or leave {name} out."
    )


# scikit-learn adds up all values, of which some may be as far above 0 as others below.
@np.errstate(over="ignore", invalid="ignore")
def _checked(
    estimator: Any, X: Any, arrays: Any, types: list[type], lazily: bool, **checks: Any
) -> Any:
    """Return what ``validate_data`` does, or :class:`SomeRows` in place of a large table."""
    if not (lazily and is_large(X)):
        checked = validate_data(estimator, X, *arrays, dtype=types, **checks)
        table, *others = checked if arrays else (checked,)
        # Frames keep columns in the byte order of another machine.
        table = table.astype(table.dtype.newbyteorder("="), copy=False)
        return (table, *others) if arrays else table
    checked = validate_data(estimator, X, *arrays, dtype=None, ensure_all_finite=False, **checks)
    table, *others = checked if arrays else (checked,)
    rows = SomeRows(table, dtype=table.dtype if table.dtype in types else types[0])
    if not all(_has_finite_sum(piece) or np.isfinite(piece).all() for piece in pieces_of(rows)):
        return validate_data(estimator, X, *arrays, dtype=types, **checks)  # says what is wrong
    return (rows, *others) if arrays else rows


def _is_sound(estimator: Any, X: Any) -> bool:
    """Whether rows to score are what scikit-learn's checks would hand back as it is.

    The checks of any other kind of table cost as much as a small network does for a row.
    """
    return (
        type(X) is np.ndarray
        and X.dtype in (np.float64, np.float32)
        and X.ndim == 2
        and len(X) > 0
        and X.shape[1] == estimator.n_features_in_
        and "feature_names_in_" not in vars(estimator)
        and not get_config()["array_api_dispatch"]
        and _has_finite_sum(X)
    )


def _has_finite_sum(X: NDArray) -> bool:
    """Whether all values are surely finite, at the cost of no second table."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(X.sum()))


def _refuse_pictures(X: Any) -> None:
    if isinstance(X, (list, tuple)) and len(X) and is_picture(X[0]):
        shape = (len(X[0].getbands()), X[0].height, X[0].width)
        raise ValueError(
            f"X holds images. Pass image_shape={shape} to a detector that takes images, or rows of "
            "features."
        )


def _refuse_images(X: Any) -> None:
    shape = tuple(getattr(X, "shape", ()))
    if len(shape) == 4:
        raise ValueError(
            f"X of shape {shape} has 4 dimensions, which are those of images. Pass "
            f"image_shape={_shape_of(shape)} to a detector that takes images, or flat rows."
        )
    if len(shape) == 3:
        raise ValueError(
            f"Found array with dim 3, of shape {shape}, while rows (n, d) are wanted. Pass "
            f"X.reshape(len(X), -1) or, if these are grey images, image_shape={(1, *shape[1:])} to "
            "a detector that takes images."
        )


def _shape_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(C, H, W) of images of a shape (n, C, H, W) or, as the numbers tell, (n, H, W, C)."""
    is_last = shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)
    return _last_first(shape) if is_last else shape[1:]


def flat_rows(X: Any, image_shape: Shape) -> Any:
    """Bring images (n, C, H, W) to rows, without a copy if they are in this order.

    Arrays of other than three or four dimensions are left to scikit-learn's checks.
    """
    if isinstance(X, np.ma.MaskedArray):
        X = of_numbers(X)
    if isinstance(X, pd.Series):
        X = X.tolist()
    if is_picture(X):
        raise ValueError("X is a single image. Pass [X], a list of images.")
    refuse_nested(X)
    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1:
        X = X.tolist()
    if isinstance(X, (list, tuple)):
        X = stacked(X, image_shape)
    shape = tuple(getattr(X, "shape", ()))
    is_grey = shape == image_shape[1:] and image_shape[0] == 1
    if is_grey and shape[1] != math.prod(image_shape):  # else it is a row of an image of one line
        raise ValueError(_mismatch(shape, image_shape))
    if len(shape) not in (3, 4):
        return X
    if shape == image_shape and image_shape[0] != 1:
        raise ValueError(_mismatch(shape, image_shape))
    images = channels_first(np.asarray(X), image_shape)
    if images.shape[1:] != image_shape:
        raise ValueError(_mismatch(shape, image_shape))
    return images.reshape(len(images), -1)


def _mismatch(shape: tuple[int, ...], image_shape: Shape) -> str:
    """Say what is wrong with an array of `shape` and what to do about it."""
    channels, height, width = image_shape
    got = f"X has the shape {shape}, but image_shape={image_shape} wants (n, {channels}, "
    got += f"{height}, {width})"
    if len(shape) == 4 and shape[2:] == (height, width):
        return (
            f"{got}: {shape[1]} channels in place of {channels}. "
            f"{_converted(shape[1], channels, 1)}, or set image_shape={tuple(shape[1:])}."
        )
    if len(shape) == 4 and shape[1:3] == (height, width):
        return (
            f"{got}: {shape[3]} channels, the last axis, in place of {channels}. "
            f"{_converted(shape[3], channels, -1)}, or set image_shape={_last_first(shape)}."
        )
    if shape in (image_shape, (height, width, channels), (height, width)):
        return f"{got}: it is a single image. Pass X[None]."
    if len(shape) == 4:
        return f"{got}. Resize the images, or set image_shape={_shape_of(shape)}."
    return f"{got} or flat rows (n, {math.prod(image_shape)})."


def _last_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[3], *shape[1:3])


def _converted(n: int, channels: int, axis: int) -> str:
    """Say how images of `n` channels become those of `channels`."""
    colours = "X[:, :3]" if axis == 1 else "X[..., :3]"
    if (n, channels) == (4, 3):
        return f"{colours} drops the fourth of four, which is mostly opacity"
    if n in (3, 4) and channels == 1:
        of_three = colours if n == 4 else "X"
        return f"Make them grey, {of_three}.mean(axis={axis}).astype(X.dtype)"
    return "Convert the images"


def _check_pixels(X: Table, kind: np.dtype | None) -> None:
    """Raise ValueError unless pixels lie in [0, 1] or are uint8, whose scale is known.

    `kind` is the type that the values had before they were converted, if it is known.
    """
    if X.dtype == np.uint8:
        return
    ends = [(float(piece.min()), float(piece.max())) for piece in pieces_of(X)]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    if -PIXEL_TOLERANCE <= low and high <= 1 + PIXEL_TOLERANCE:
        return
    got = f"X holds values from {low:.6g} to {high:.6g}"
    if isinstance(kind, np.dtype) and np.issubdtype(kind, np.integer):
        raise ValueError(
            f"{got} of type {kind}; with image_shape, integers other than uint8 must be 0 or 1. "
            "Pass X.astype(np.uint8) if they are pixels in 0 to 255, which is divided by 255, or "
            "scale them to [0, 1]."
        )
    white = next((most for most in (16, 255, 65535) if high <= most), 255)
    raise ValueError(
        f"{got}; with image_shape, pixels must lie in [0, 1]. Divide by the largest value that a "
        f"pixel can have, such as X / {white}, or pass uint8 in 0 to 255, which is divided by 255."
    )


def row_shape(image_shape: Sequence[int] | None, n_features: int) -> tuple[int, ...]:
    """Shape of a row of `n_features` columns: (d,), or the (C, H, W) of images."""
    if image_shape is None:
        return (n_features,)
    shape = check_image_shape(image_shape)
    if math.prod(shape) != n_features:  # true of checked rows, but a file may err
        raise ValueError(f"image_shape={shape} does not make {n_features} columns.")
    return shape
