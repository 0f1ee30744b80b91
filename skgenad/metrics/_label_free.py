"""What criteria without labels share: scores and fits of candidates, and the scorer made of one."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from skgenad._core.searches import refuse, search_asking

from ._scorers import anomaly_score, has_scores


class CandidateError(ValueError):
    """What one candidate fails in, where others of a search may not."""


def scores_of(estimator: Any, X: Any) -> NDArray:
    """Finite anomaly scores (n,) of rows by a fitted candidate."""
    if not has_scores(estimator):
        return anomaly_score(estimator, X)  # says so
    try:
        scores = np.asarray(anomaly_score(estimator, X), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CandidateError(str(error)) from error
    if not np.isfinite(scores).all():
        name = type(estimator).__name__
        raise CandidateError(f"{name} gives scores that are NaN or infinity.")
    return scores


def refitted(estimator: Any, X: Any, seed: int | None = None) -> Any:
    """Fit a clone of a candidate; a seed takes the place of all its ``random_state``."""
    made = clone(estimator)
    if seed is not None:
        made.set_params(**dict.fromkeys(seeds_in(made), seed))
    try:
        return made.fit(X)
    except (TypeError, ValueError) as error:
        raise CandidateError(str(error)) from error


def seeds_in(estimator: Any) -> list[str]:
    """Names of the parameters that are seeds, those of steps and members included."""
    return [name for name in estimator.get_params() if re.search(r"(^|__)random_state$", name)]


def rows_like(rows: NDArray, X: Any) -> Any:
    """Rows with the columns' names that `X` has, if it has any."""
    return pd.DataFrame(rows, columns=list(X.columns)) if hasattr(X, "columns") else rows


def rows_at(X: Any, places: NDArray) -> Any:
    """Take rows of an array or frame, by place."""
    if hasattr(X, "iloc"):
        return X.iloc[places]
    return X[places] if hasattr(X, "columns") else np.asarray(X)[places]


def make_label_free_scorer(
    criterion: Callable[..., float], *, greater_is_better: bool = True, **kwargs: Any
) -> Callable[..., float]:
    """Make a scorer for searches from a criterion that needs no labels.

    Parameters
    ----------
    criterion : callable
        ``criterion(estimator, X_train, X, **kwargs)`` returning a number, such as `excess_mass`,
        `mass_volume`, `contrast_auc`, `stability` or `agreement`. It is given a candidate that is
        fitted to `X_train`, and other rows.
    greater_is_better : bool, default=True
        If False, as `mass_volume` needs it, the scorer returns the negated criterion.
    **kwargs : dict
        Passed to `criterion`.

    Returns
    -------
    callable
        ``scorer(estimator, X, y=None)``, to be passed as ``scoring=`` to `GridSearchCV`,
        `cross_val_score` and the like; labels are ignored. It can be pickled when `criterion` can.

    Raises
    ------
    TypeError
        If `criterion` is not callable.

    See Also
    --------
    make_anomaly_scorer : The same for metrics of labels.

    Notes
    -----
    A scorer is given the rows of a fold's test part alone; those of its training part are taken
    from the search that asks. By hand, call the criterion itself.

    Wrong arguments and rows stop a search, whatever its ``error_score``; a candidate that cannot be
    fitted again, or whose scores are not finite, loses.

    Whether any of these criteria finds good detectors is another question: see the user guide.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skgenad import Neighbors
    >>> from skgenad.metrics import excess_mass, make_label_free_scorer
    >>> X = np.random.RandomState(0).normal(size=(200, 2))
    >>> scorer = make_label_free_scorer(excess_mass, n_uniform=1000)
    >>> search = GridSearchCV(Neighbors(), {"n_neighbors": [1, 20]}, scoring=scorer, cv=3).fit(X)
    >>> search.best_params_
    {'n_neighbors': 20}
    """
    if not callable(criterion):
        raise TypeError(
            "criterion must be a function of an estimator, its training rows and others, got "
            f"{criterion!r}; pass the function itself, for example skgenad.metrics.excess_mass."
        )
    return _LabelFreeScorer(criterion, greater_is_better, kwargs)


class _LabelFreeScorer:
    """A scorer; an object and not a closure, so that it can be sent to other processes."""

    def __init__(
        self, criterion: Callable[..., float], greater_is_better: bool, kwargs: dict[str, Any]
    ) -> None:
        self.criterion = criterion
        self.greater_is_better = greater_is_better
        self.kwargs = kwargs

    def __call__(self, estimator: Any, X: ArrayLike, y: ArrayLike | None = None) -> float:
        asker = sys._getframe(1)
        search = search_asking(asker)
        try:
            if search is None or search.training_rows is None:
                name = getattr(self.criterion, "__name__", "criterion")
                raise ValueError(
                    "This scorer takes the training rows from the search that asks, and none does; "
                    f"by hand, call {name}(estimator, X_train, X)."
                )
            value = float(self.criterion(estimator, search.training_rows, X, **self.kwargs))
        except CandidateError:
            raise
        except (TypeError, ValueError) as error:
            return refuse(error, asker)
        return value if self.greater_is_better else -value

    def __repr__(self) -> str:
        options = {} if self.greater_is_better else {"greater_is_better": False}
        arguments = [
            getattr(self.criterion, "__name__", repr(self.criterion)),
            *(f"{key}={value!r}" for key, value in {**options, **self.kwargs}.items()),
        ]
        return f"make_label_free_scorer({', '.join(arguments)})"
