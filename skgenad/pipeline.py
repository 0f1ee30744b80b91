"""Pipelines whose last step, a detector, reaches the user: p-values, densities, samples, batches.

scikit-learn's `Pipeline` hands on ``predict`` and ``score_samples`` and no more. The one here is
the same estimator with more methods, each of which is there if the last step has it::

    make_pipeline(OneHotEncoder(), Mahalanobis(calibration_fraction=0.2)).fit(X).p_value(X_new)
"""

from __future__ import annotations

from os import PathLike
from typing import Any, Self

from numpy.typing import ArrayLike, NDArray
from sklearn import pipeline
from sklearn.utils.metaestimators import available_if

from skgenad._core.chunks_of_rows import TakesChunks
from skgenad._core.column_wise import Through
from skgenad._core.last_steps import asks, last_has, rows_for_last, transformers
from skgenad._core.saving import save

__all__ = ["Pipeline", "make_pipeline"]


class Pipeline(TakesChunks, pipeline.Pipeline):
    """scikit-learn's pipeline, whose last step's own methods can be called as well.

    Rows go through the earlier steps first. What a method returns is in the units of what the last
    step is given: a `log_density` is that of the transformed rows. But `sample`, `reconstruct` and
    `repair` go back through the inverses of the steps, and `explain` is about the columns of `X`.

    Parameters
    ----------
    steps : list of tuples
        Pairs (name, estimator), all but the last transformers.
    transform_input : list of str, default=None
        Names of metadata that earlier steps transform; see scikit-learn's class.
    memory : str or object with the joblib.Memory interface, default=None
        Keeps fitted transformers.
    verbose : bool, default=False
        Whether to print how long each step takes to fit.

    Attributes
    ----------
    named_steps : Bunch
        Steps by name.
    offset_ : float
        Threshold of the last step, which may be set.

    See Also
    --------
    make_pipeline : Names the steps by their classes.

    Notes
    -----
    The last step's other attributes, such as `history_`, are those of ``pipeline[-1]``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import RobustScaler
    >>> from skgenad import Mahalanobis
    >>> from skgenad.pipeline import Pipeline
    >>> X = np.random.RandomState(0).randn(200, 3) * [1, 10, 100]
    >>> detector = Mahalanobis(calibration_fraction=0.5, random_state=0)
    >>> pipe = Pipeline([("scale", RobustScaler()), ("detect", detector)]).fit(X)
    >>> pipe.p_value([[0, 0, 900]]).round(2)
    array([0.01])
    >>> pipe.sample(2, random_state=0).shape
    (2, 3)
    """

    def _ask(self, name: str, X: ArrayLike, **options: Any) -> Any:
        """Call a method of the last step with rows that went through the others."""
        return getattr(self.steps[-1][1], name)(rows_for_last(self, X), **options)

    def _back(self, rows: Any) -> Any:
        """Take rows of the last step back through the inverses of the others."""
        for step in reversed(transformers(self)):
            rows = step.inverse_transform(rows)
        return rows

    # ---- training that goes on --------------------------------------------------------------

    @available_if(last_has("partial_fit"))
    def partial_fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Let the last step learn from one more batch of rows; the first call is a `fit`.

        The other steps stay as the first batch made them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            What the last step wants of it.

        Returns
        -------
        self : Pipeline
            The fitted pipeline.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X, y)
        self.steps[-1][1].partial_fit(rows_for_last(self, X), y)
        return self

    @available_if(last_has("calibrate"))
    def calibrate(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Take the last step's threshold and p-values from fresh normal rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Normal rows that nothing was fitted on.
        y : array-like of shape (n_samples,), default=None
            Their classes, for a detector with ``use_labels=True``; all others ignore it.

        Returns
        -------
        self : Pipeline
            The pipeline. Its scores are what they were.
        """
        self._ask("calibrate", X, y=y)
        return self

    @available_if(last_has("forget_rows"))
    def forget_rows(self) -> Self:
        """Drop the training rows that the last step has kept for explanations.

        Returns
        -------
        self : Pipeline
            The pipeline. Files hold no such rows, and explanations need `reference`.
        """
        self.steps[-1][1].forget_rows()
        return self

    @available_if(last_has("set_threshold"))
    def set_threshold(
        self, *, fpr: float, X: ArrayLike | None = None, y: ArrayLike | None = None
    ) -> Self:
        """Let `predict` flag another share of new normal rows, without another fit.

        Parameters
        ----------
        fpr : float
            False positive rate in [0, 0.5]; 0: below all held-out rows.
        X : array-like of shape (n_samples, n_features), default=None
            Fresh normal rows, which take the place of those held out; None: those held out.
        y : array-like of shape (n_samples,), default=None
            Classes of `X`, for a detector with ``use_labels=True``; all others ignore it.

        Returns
        -------
        self : Pipeline
            The pipeline. Its scores are what they were.
        """
        rows = None if X is None else rows_for_last(self, X)
        self.steps[-1][1].set_threshold(fpr=fpr, X=rows, y=y)
        return self

    @available_if(last_has("threshold"))
    def threshold(self, fpr: float) -> float:
        """Threshold below which a new normal row scores with a given probability.

        Parameters
        ----------
        fpr : float
            False positive rate in [0, 0.5]; 0: below all held-out rows.

        Returns
        -------
        threshold : float
            In the unit of ``score_samples``.
        """
        return self.steps[-1][1].threshold(fpr)

    # ---- scores -----------------------------------------------------------------------------

    @property
    def offset_(self) -> float:
        """Threshold of the last step, which may be set."""
        return self.steps[-1][1].offset_

    @offset_.setter
    def offset_(self, value: float) -> None:
        self.steps[-1][1].offset_ = value

    anomaly_score = asks(
        "anomaly_score",
        "Negative of `score_samples`: higher is more anomalous.",
        "scores : ndarray of shape (n_samples,)",
        "Float64.",
    )
    p_value = asks(
        "p_value",
        "P-values of the hypothesis that a row is normal.",
        "p_values : ndarray of shape (n_samples,)",
        "In (0, 1].",
    )
    class_p_values = asks(
        "class_p_values",
        "P-values of the hypotheses that a row is a normal row of each class.",
        "p_values : ndarray of shape (n_samples, n_classes)",
        "In (0, 1].",
    )
    q_value = asks(
        "q_value",
        "Adjust p-values of rows for their number, by the last step.",
        "q_values : ndarray of shape (n_samples,)",
        "In (0, 1].",
    )
    select = asks(
        "select",
        "Flag rows so that the false discovery rate is bounded, by the last step.",
        "selected : ndarray of shape (n_samples,)",
        "Of type bool.",
    )
    log_density = asks(
        "log_density",
        "Log density of the rows that the last step is given.",
        "log_densities : ndarray of shape (n_samples,)",
        "In the units of what the last step is given, whose volume the other steps may change.",
    )
    energy = asks(
        "energy",
        "Energies of rows: low is normal.",
        "energies : ndarray of shape (n_samples,)",
        "Float64.",
    )
    member_scores = asks(
        "member_scores",
        "Scores of the members of a committee.",
        "scores : DataFrame of shape (n_samples, n_members)",
        "A column per member.",
    )
    scale_contributions = asks(
        "scale_contributions",
        "Return what each scale of a flow adds to the score.",
        "contributions : ndarray of shape (n_samples, n_scales)",
        "Float64.",
    )
    anomaly_map = asks(
        "anomaly_map",
        "Where images are unusual.",
        "maps : ndarray of shape (n_samples, height, width)",
        "Float64.",
    )
    instance_scores = asks(
        "instance_scores",
        "Scores of the parts of samples, of which their own are made.",
        "scores : list of ndarray of shape (k,)",
        "Float64, one array for each sample.",
    )

    @available_if(last_has("on_manifold_score"))
    def on_manifold_score(self, X: ArrayLike, y: None = None) -> float:
        """Score without labels, for searches; `skgenad.metrics.on_manifold_scorer` is a scorer.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Held-out rows.
        y : None
            Ignored.

        Returns
        -------
        score : float
            In [0, 1], higher is better.
        """
        return self._ask("on_manifold_score", X)

    # ---- explanations -----------------------------------------------------------------------

    @available_if(last_has("explain"))
    def explain(
        self, X: ArrayLike, *, groups: ArrayLike | None = None, reference: ArrayLike | None = None
    ) -> NDArray:
        """Say how much each column of `X` raises the anomaly score of a row.

        What the other steps make of one column, such as its one-hot columns, belongs together.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        groups : array-like of shape (n_features,), default=None
            Labels of columns of `X` that belong together.
        reference : array-like of shape (n_reference, n_features), default=None
            Normal rows to compare with; None: training rows that the last step has kept.

        Returns
        -------
        contributions : ndarray of shape (n_samples, n_features) or (n_samples, n_groups)
            As those of the last step, in the order of the columns of `X`; 0 for columns that do not
            reach it. A frame may have its columns in another order than that of the fit.

        Raises
        ------
        ValueError
            If a step makes columns of several others.
        """
        return self._seen_through().explain(X, groups, reference)

    @available_if(last_has("repair"))
    def repair(
        self, X: ArrayLike, *, groups: ArrayLike | None = None, reference: ArrayLike | None = None
    ) -> Any:
        """Change rows to their nearest normal versions, in the columns of `X`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        groups : array-like of shape (n_features,), default=None
            Labels of columns of `X` that belong together.
        reference : array-like of shape (n_reference, n_features), default=None
            Normal rows to take values from; None: training rows that the last step has kept. Where
            a step has no inverse, cells are those of the rows that are nearest after it.

        Returns
        -------
        repaired : ndarray or DataFrame of shape (n_samples, n_features)
            A copy of `X`, a frame of pandas or polars if it is one, with other values where the
            last step changes what it is given. Those are taken back through the inverses of the
            other steps, and are whole numbers in columns of whole numbers.

        Raises
        ------
        ValueError
            If a step makes columns of several others, or has no inverse and there is no
            `reference`.
        """
        return self._seen_through().repair(X, groups, reference)

    def _seen_through(self) -> Through:
        return Through(transformers(self), self.steps[-1][1])

    # ---- rows -------------------------------------------------------------------------------

    @available_if(last_has("reconstruct", inverted=True))
    def reconstruct(self, X: ArrayLike) -> Any:
        """Reconstruct rows, only if all other steps have an inverse.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        rows : array-like of shape (n_samples, n_features)
            In the units of `X`.
        """
        return self._back(self._ask("reconstruct", X))

    @available_if(last_has("sample", inverted=True))
    def sample(self, *args: Any, **kwargs: Any) -> Any:
        """Draw rows, only if all other steps have an inverse.

        Parameters
        ----------
        *args, **kwargs
            Those of the last step: ``n_samples`` and ``random_state``.

        Returns
        -------
        rows : array-like of shape (n_samples, n_features)
            In the units of the rows of `fit`.
        """
        return self._back(self.steps[-1][1].sample(*args, **kwargs))

    # ---- files ------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted pipeline to one file that holds no code; `skgenad.load` reads it.

        Parameters
        ----------
        path : path-like
            File to write; an existing one is replaced.

        Raises
        ------
        TypeError
            If a step is of a class that files do not hold; see `skgenad.save`.
        """
        save(self, path)


def make_pipeline(*steps: Any, memory: Any = None, verbose: bool = False) -> Pipeline:
    """Make a pipeline of steps that are named by their classes.

    Parameters
    ----------
    *steps : estimators
        Transformers, and a detector as the last one.
    memory : str or object with the joblib.Memory interface, default=None
        Keeps fitted transformers.
    verbose : bool, default=False
        Whether to print how long each step takes to fit.

    Returns
    -------
    pipeline : Pipeline
        With the methods of its last step.

    Examples
    --------
    A table with a column of categories.

    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn.compose import make_column_transformer
    >>> from sklearn.preprocessing import OneHotEncoder
    >>> from skgenad import Mahalanobis
    >>> from skgenad.pipeline import make_pipeline
    >>> rng = np.random.RandomState(0)
    >>> X = pd.DataFrame({"size": rng.randn(200), "colour": rng.choice(["red", "blue"], 200)})
    >>> encode = make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough")
    >>> detector = Mahalanobis(shrinkage=0.1, random_state=0)
    >>> pipe = make_pipeline(encode, detector).fit(X[:100]).calibrate(X[100:])
    >>> pipe.p_value(pd.DataFrame({"size": [0.0, 9.0], "colour": ["red", "red"]})).round(2)[1]
    np.float64(0.01)
    """
    return Pipeline(pipeline.make_pipeline(*steps).steps, memory=memory, verbose=verbose)
