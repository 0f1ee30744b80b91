"""Windows of a time series as rows, and scores of windows as scores of time steps."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import ClassVar, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted

from skgenad._core.checks import CheckedParameters, Interval, StrOptions, fit_context
from skgenad._core.rows import validate_rows
from skgenad._core.versions import VersionedPickle

# What several windows say of a time step, put together pair by pair.
_COMBINED: dict[str, Callable[..., NDArray]] = {
    "mean": np.add,
    "max": np.maximum,
    "min": np.minimum,
}


class SlidingWindows(  # type: ignore[call-arg]  # scikit-learn's mixin takes the keyword
    VersionedPickle, TransformerMixin, CheckedParameters, auto_wrap_output_keys=None
):
    """Windows of a time series as rows, and scores of windows as scores of time steps.

    Window k holds the time steps ``k * stride`` to ``k * stride + width - 1``, one after the other:
    its row is ``X[k * stride : k * stride + width].ravel()``. A detector behind it scores windows,
    and `inverse_scores` tells what that says of time steps.

    Parameters
    ----------
    width : int
        Time steps of a window, at least 1. As long as what a step has to be seen beside: some
        periods of what repeats.
    stride : int, default=1
        Time steps from one window's start to the next one's, from 1 to `width`, so that no step is
        left out between windows.
    reduce : {"mean", "max", "min", "last"}, default="mean"
        What `inverse_scores` gives a time step of the windows that hold it: their mean, largest or
        smallest score; or ``"last"``, the score of the last window that has ended by then, which
        knows nothing of what comes later, as an alarm that is raised at once. "max" is for scores
        that are higher for anomalies, "min" for those of ``score_samples``.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of the series (channels).
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if all are strings.

    See Also
    --------
    skgenad.pipeline.make_pipeline : Pipeline whose last step's scores and p-values are its own.

    Notes
    -----
    There are ``1 + (n_times - width) // stride`` windows; the steps after the last of them, fewer
    than `stride`, are in none, and have its score. Before the first window has ended, "last" gives
    its score. Rows have the same time step of all columns side by side, as the series has, so that
    they are a view of it that takes no memory of its own, and may not be written to.

    The number of rows changes, so labels of time steps cannot be passed to the ``fit`` of a
    pipeline, and there is no ``set_output``. Several series are transformed one by one and put
    together: ``np.concatenate([windows.transform(series) for series in recordings])``; no window
    reaches from one into the next then.

    Neighbouring windows share steps and are no independent draws. For the threshold and p-values
    hold out a stretch of time, with ``calibration="last"`` in ``fit``; their guarantee is one for
    series that are exchangeable, and of windows that overlap it speaks one at a time.

    Examples
    --------
    A pause in a rhythm, each step of which is as normal as any other:

    >>> import numpy as np
    >>> from skgenad import Mahalanobis
    >>> from skgenad.pipeline import make_pipeline
    >>> from skgenad.preprocessing import SlidingWindows
    >>> rhythm = np.sin(np.arange(400) / 3)[:, None]
    >>> rhythm += 0.05 * np.random.RandomState(0).randn(400, 1)
    >>> model = make_pipeline(SlidingWindows(20), Mahalanobis(random_state=0)).fit(rhythm[:300])
    >>> series = rhythm[300:].copy()
    >>> series[50:65] = 0.0
    >>> scores = model[0].inverse_scores(model.anomaly_score(series))
    >>> scores.shape, bool(50 <= scores.argmax() < 65)
    ((100,), True)
    """

    _parameter_constraints: ClassVar[dict] = {
        "width": [Interval(Integral, 1, None, closed="left")],
        "stride": [Interval(Integral, 1, None, closed="left")],
        "reduce": [StrOptions({*_COMBINED, "last"})],
    }

    def __init__(self, width: int, stride: int = 1, reduce: str = "mean") -> None:
        self.width = width
        self.stride = stride
        self.reduce = reduce

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: None = None) -> Self:
        """Note the columns of a series.

        Parameters
        ----------
        X : array-like of shape (n_times, n_features)
            A series with a row for each time step, in their order.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If a parameter is out of range, or the series is shorter than a window.
        """
        self._check_length(len(self._validate(X, reset=True)))
        if self.stride > self.width:
            raise ValueError(
                f"stride={self.stride} leaves out time steps between windows of width={self.width}."
                f" Write stride={self.width} for windows side by side."
            )
        return self

    def transform(self, X: ArrayLike) -> NDArray:
        """Windows of a series.

        Parameters
        ----------
        X : array-like of shape (n_times, n_features)
            A series with a row for each time step, in their order.

        Returns
        -------
        windows : ndarray of shape (n_windows, width * n_features)
            Float32 where X is, else float64; read-only, and where X is an array in C order a view
            of it.

        Raises
        ------
        ValueError
            If the series has other columns, or is shorter than a window.
        """
        check_is_fitted(self)
        series = self._validate(X, reset=False)
        self._check_length(len(series))
        values = np.ascontiguousarray(series).reshape(-1)
        n = series.shape[1]
        return sliding_window_view(values, self.width * n)[:: self.stride * n]

    def inverse_scores(self, scores: ArrayLike, n_times: int | None = None) -> NDArray:
        """Scores of time steps, from those of windows.

        Parameters
        ----------
        scores : array-like of shape (n_windows,)
            A number for each window of one series: scores, or whether it is flagged.
        n_times : int, default=None
            Length of the series. None is that at which the last window ends; a longer one ends
            less than `stride` steps after it.

        Returns
        -------
        scores : ndarray of shape (n_times,)
            Float64.

        Raises
        ------
        ValueError
            If a series of that length has another number of windows.
        """
        check_is_fitted(self)
        values = check_array(scores, ensure_2d=False, dtype=np.float64, input_name="scores")
        if values.ndim != 1:
            raise ValueError(f"scores must be one number for each window, got {values.shape}.")
        end = (len(values) - 1) * self.stride + self.width
        n_times = end if n_times is None else n_times
        if not end <= n_times < end + self.stride:
            raise ValueError(
                f"There are scores of {len(values)} windows, but a series of n_times={n_times} has "
                f"{self._n_windows(n_times)}. Pass the scores of one series, and its length."
            )
        times = np.arange(n_times)
        if self.reduce == "last":
            return values[((times - self.width + 1) // self.stride).clip(0, len(values) - 1)]
        return self._combined(values, times)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray:
        """Names of the columns of windows: that of the series, and how many steps before the end.

        Parameters
        ----------
        input_features : None
            Ignored; the names are those of the rows of `fit`, or ``x0``, ``x1`` and so on.

        Returns
        -------
        names : ndarray of shape (width * n_features_in_,)
            Such as ``"pressure t-2"``; without a number at the last step of a window.
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", [f"x{j}" for j in range(self.n_features_in_)])
        steps = [f"t-{k}" if k else "t" for k in reversed(range(self.width))]
        return np.array([f"{name} {step}" for step in steps for name in names], dtype=object)

    def _validate(self, X: ArrayLike, *, reset: bool) -> NDArray:
        return validate_rows(self, X, image_shape=None, reset=reset)

    def _n_windows(self, n_times: int) -> int:
        return max(0, 1 + (n_times - self.width) // self.stride)

    def _check_length(self, n_times: int) -> None:
        if n_times < self.width:
            raise ValueError(
                f"X has {n_times} time steps, fewer than a window of width={self.width}."
            )

    def _combined(self, values: NDArray, times: NDArray) -> NDArray:
        """Put together what all windows that hold a step say of it."""
        last = (times // self.stride).clip(max=len(values) - 1)
        first = (-((self.width - 1 - times) // self.stride)).clip(0, last)
        combine, found = _COMBINED[self.reduce], values[first]
        for k in range(1, (last - first).max() + 1):
            more = first + k <= last
            found[more] = combine(found[more], values[first[more] + k])
        return found / (last - first + 1) if self.reduce == "mean" else found
