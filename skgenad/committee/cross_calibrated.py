"""A detector that is trained and calibrated by all rows, in folds: CV+ and jackknife+ p-values.

With s_k the scores of the model that was fitted without fold k, and k(i) the fold of training row
i, the p-value of a row x is

    p(x) = (1 + #{i : s_k(i)(x_i) <= s_k(i)(x)}) / (n + 1),

each training row compared by the one model that has seen neither it nor x. If the n rows and x are
exchangeable, and training does not look at the order of its rows,

    P(p(x) <= a)  <=  2 a                                                       with n folds,
    P(p(x) <= a)  <=  2 a + min{2 (1 - 1/K) / (n/K + 1), (1 - K/n) / (K + 1)}   with K of one size

(Barber et al., 2021, Theorems 1 and 4, whose sets of values that are not rejected are those with
p > a). Where leaving a fold out changes scores little, P is about a. The difference to split
conformal p-values is what the models of the other folds see: no row is given to calibration alone.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from skgenad._core.checks import Interval, StrOptions, fit_context
from skgenad._core.contract import BaseDetector
from skgenad._core.detector import SCORING_CHUNK
from skgenad._core.rows import Shape
from skgenad._core.saving import SavingMixin
from skgenad._core.state import clone_of_parameters
from skgenad._core.training import empty_history
from skgenad._tensors.seeds import draw_seed
from skgenad.likelihoods.mahalanobis import Mahalanobis

from ._files import CROSS_CALIBRATED
from ._members import (
    TrainingRows,
    check_detector,
    energies,
    fitted,
    history_of,
    refuse_samples,
    rows_for_models,
    shape_of,
    tasks_of,
    uses_labels,
)


class CrossCalibrated(SavingMixin, BaseDetector):
    """Train and calibrate a detector by all rows, in folds.

    Use it where rows are too few to give some of them to calibration alone: p-values are as fine as
    1 / (n_samples + 1), and each model is trained on all rows but a fold. It costs a fit for each
    fold.

    Parameters
    ----------
    detector : estimator, default=None
        Unfitted, with ``fit`` and ``score_samples``: of this package, of scikit-learn, of pyod
        through `skgenad.compat.PyODDetector`, or a pipeline. None: `Mahalanobis`.
    cv : int or "loo", default=5
        Number of folds, at least 2; more than half the rows are taken for half of them, so that
        folds have at least two rows. "loo": as many as rows (jackknife+).
    contamination : float or "auto", default="auto"
        Share, up to 0.5, of new normal rows that `predict` flags; 0: no row of `fit`; "auto": 0.1.
    calibration_fraction : float or "auto", default="auto"
        Share of rows held out of training for threshold and p-values. "auto": a fifth, if needed.
    n_jobs : int, default=None
        Models to fit at the same time, by joblib; None: 1, -1: one per core.
    random_state : int, RandomState or None, default=None
        Seed of folds, rows held out, and a detector with ``random_state=None``.
    verbose : int, default=0
        Whether to show a progress bar over the models.

    Attributes
    ----------
    detectors_ : list of detectors
        The fitted models, one per fold that rows are compared by.
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    history_ : DataFrame
        Histories of the models, if they have any, with columns ``member`` and ``fold``.
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes. There only if the detector has ``use_labels=True``.
    calibration_scores_ : ndarray or None
        Sorted scores, out of sample, that the threshold and p-values come from.
    seed_ : int
        Seed drawn from `random_state`.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if all are strings.

    See Also
    --------
    Committee : Several detectors, calibrated out of fold as well.

    Notes
    -----
    ``score_samples`` is the mean of the models' scores, in the detector's unit. Threshold and
    p-values come from scores of each training row by the model that was fitted without its fold:
    none are held out of all folds, unless by `groups`, `calibration` or a number above 0 as
    `calibration_fraction`; p-values are then split-conformal. With 0, and by ``fit_predict`` with a
    number as `contamination`, p-values are those of the default, and the threshold is that of the
    training rows.

    P-values compare rows by each model apart, so they may rank rows a little differently. With n
    training rows that are exchangeable with a normal row, and a detector that does not look at
    their order, that row has a p-value of at most alpha with a probability of at most 2 alpha, by
    ``cv="loo"``; with K folds of one size of at most that and the smaller of 2 (1 - 1/K) /
    (n/K + 1) and (1 - K/n) / (K + 1) [1]_. In practice it is about alpha [2]_. By class the bound
    of "loo" holds for a normal row of that class; with classes `y` folds are stratified by them,
    which the theorem on K folds does not cover. `select` has no bound of its own: with
    ``method="by"`` and ``cv="loo"`` it is twice the one of split-conformal p-values. After
    :meth:`calibrate` p-values are split-conformal, with their guarantees.

    Of more than 10,000 rows so many are compared with, drawn at random from each fold alike. With
    fewer than 4 rows, 3 with ``cv="loo"``, there are no folds, and no p-values.

    ``save`` takes detectors that :func:`skgenad.save` takes; pickle and joblib work with all.

    References
    ----------
    .. [1] R. F. Barber, E. J. Candès, A. Ramdas, R. J. Tibshirani. Predictive Inference with the
       Jackknife+. Annals of Statistics, 2021. https://arxiv.org/abs/1905.02928
    .. [2] O. Hennhöfer, C. Preisach. Leave-One-Out-, Bootstrap- and Cross-Conformal Anomaly
       Detectors. 2024. https://arxiv.org/abs/2402.16388

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import CrossCalibrated, Mahalanobis
    >>> X = np.random.RandomState(0).randn(60, 5)
    >>> detector = CrossCalibrated(Mahalanobis(), cv=10, random_state=0).fit(X)
    >>> detector.p_value(np.full((1, 5), 9.0)).round(3)
    array([0.016])
    >>> len(detector.calibration_scores_), len(detector.detectors_)
    (60, 10)
    """

    _models: list[Any]
    # Fold of each of `calibration_scores_`; None where these come from rows that were held out.
    _folds: NDArray | None

    _table = CROSS_CALIBRATED
    _reads_lazily = True
    _parameter_constraints: ClassVar[dict] = {
        # `fit` checks it, with an error that says what to do.
        "detector": "no_validation",
        "cv": [Interval(Integral, 2, None, closed="left"), StrOptions({"loo"})],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
        **BaseDetector._parameter_constraints,
    }

    def __init__(
        self,
        detector: Any = None,
        *,
        cv: int | str = 5,
        contamination: float | str = "auto",
        calibration_fraction: float | str = "auto",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.detector = detector
        self.cv = cv
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # ---- fit ------------------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        calibration: str | ArrayLike = "random",
    ) -> Self:
        """Fit a copy of the detector without each fold, and score the fold's rows by it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, at least 2, taken as normal but for the share `contamination`.
        y : array-like of shape (n_samples,), default=None
            Classes of the rows for a detector with ``use_labels=True``; all others ignore it.
        groups : array-like of shape (n_samples,), default=None
            Labels of groups, such as persons or machines: whole groups are held out of all folds.
        calibration : {"random", "last", "none"} or array-like, default="random"
            Which rows `calibration_fraction` holds out; "last", for series: the last ones; "none":
            none this time. A mask or places of rows names them itself.

        Returns
        -------
        self : object
            The fitted detector. If `fit` is interrupted or fails, it stays what it was before.

        Raises
        ------
        TypeError
            If `detector` has no ``fit`` or no ``score_samples``.
        """
        detector = self._checked()
        with self._all_or_nothing():
            X, codes = self._validate_labelled(X, y, reset=True, ensure_min_samples=2)
            self._image_shape = self._shape(reset=True)
            self._fitted_parameters = clone_of_parameters(self)
            self.seed_ = draw_seed(self.random_state)
            train, codes, held_out, known = self._split_calibration(X, codes, groups, calibration)
            labels = None if codes is None else self.classes_[codes]
            rows = TrainingRows.of(train, labels, self._image_shape, self._names)
            self._keep_reference(rows.clean, self.seed_)
            scores, folds, places = self._learn(detector, rows, codes)
            tables = list(history_of(self._models, "detector"))
            self.history_ = pd.concat(tables, ignore_index=True) if tables else empty_history()
            out_of_fold = held_out is None or not len(held_out)
            if out_of_fold and codes is not None:
                known = codes[places]
            self._set_threshold(X, held_out, scores, labels=known)
            if out_of_fold and scores is not None:
                # Where no rows are to be held out the threshold is that of all rows; p-values
                # need none that are held out of all folds.
                self._keep_scores(scores, known)
                self._folds = folds[np.argsort(scores, kind="stable")]
        return self

    def _checked(self) -> Any:
        """Return the detector, or say why it is none."""
        given = Mahalanobis() if self.detector is None else self.detector
        check_detector(given)
        refuse_samples(given, self)
        return given

    def _learn(
        self, detector: Any, rows: TrainingRows, codes: NDArray | None
    ) -> tuple[NDArray | None, NDArray, NDArray]:
        """Fit the models; return scores of rows out of fold, their folds, and their places."""
        n, alone = len(rows.table), isinstance(self.cv, str)
        folds = n if isinstance(self.cv, str) else self.cv
        named = [("detector", detector)]
        tasks = tasks_of(named, n, folds, self.seed_, codes, in_folds=True, of_one_row=alone)
        calls = (delayed(fitted)(detector, task, rows) for task in tasks)
        parallel = Parallel(n_jobs=self.n_jobs, return_as="generator")
        found = list(
            tqdm(parallel(calls), desc="folds", total=len(tasks), disable=not self.verbose)
        )
        self._models = [model for model, _ in found]
        fold = np.repeat(np.arange(len(tasks)), [len(task.reference) for task in tasks])
        scores = -np.concatenate([of_references for _, of_references in found])
        out_of_fold = len(tasks) > 1
        places = np.concatenate([task.reference for task in tasks])
        return scores if out_of_fold else None, fold, places

    def _keep_scores(self, scores: NDArray | None, labels: NDArray | None) -> None:
        # First, since another thread may ask for p-values: other scores have other folds.
        self._folds = None
        super()._keep_scores(scores, labels)

    @property
    def detectors_(self) -> list[Any]:
        """The fitted models, one per fold."""
        check_is_fitted(self, "_models")
        return list(self._models)

    @property
    def _scores_training_rows(self) -> bool:
        return True

    @property
    def _uses_labels(self) -> bool:
        return uses_labels(self.detector)

    def _shape(self, reset: bool) -> Shape | None:
        return shape_of([("detector", self._checked())]) if reset else self._image_shape

    # ---- score ----------------------------------------------------------------------------

    def _score(self, X: NDArray) -> NDArray:
        # The mean of numbers near float64's largest, without their sum.
        return np.add.reduce(self._by_model(X).T / len(self._models))

    def _by_model(self, X: NDArray) -> NDArray:
        """Scores (n, models) of rows, chunk by chunk."""
        scores = np.empty((len(X), len(self._models)))
        for start in range(0, len(X), SCORING_CHUNK):
            chunk = slice(start, start + SCORING_CHUNK)
            rows = rows_for_models(X[chunk], self._image_shape, self._names)
            for k, model in enumerate(self._models):
                scores[chunk, k] = -energies(model, rows)
        return scores

    def p_value(self, X: ArrayLike, *, by_class: bool = False) -> NDArray:
        """P-values of the hypothesis that a row is normal: CV+, or jackknife+ with ``cv="loo"``.

        The p-value of a row is ``(1 + #{training rows that score no higher}) / (n + 1)``, each of
        the n training rows compared by the model that was fitted without its fold. Flagging rows
        with a p-value of at most alpha flags a normal row with a probability of at most 2 alpha
        with ``cv="loo"``, and a little more with K folds of one size (see the class's notes); in
        practice it is about alpha. Where rows were held out of all folds, or after
        :meth:`calibrate`, p-values are split-conformal, and it is at most alpha.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        by_class : bool, default=False
            Whether to take the largest of the row's :meth:`class_p_values`: then a normal row of
            *each* class is flagged with at most the probability that is stated there.

        Returns
        -------
        p_values : ndarray of shape (n_samples,)
            In (0, 1].

        Raises
        ------
        ValueError
            If there are no scores out of sample, since the rows were too few for folds, or none of
            one of the classes.
        """
        return super().p_value(X, by_class=by_class)

    def class_p_values(self, X: ArrayLike) -> NDArray:
        """P-values of the hypotheses that a row is a normal row of each class.

        Training rows of the class alone are compared with. With ``cv="loo"`` its normal rows have
        a p-value of at most alpha with a probability of at most 2 alpha. With folds, which are
        stratified by class, no bound is proved. Where rows were held out of all folds, or after
        :meth:`calibrate`, the probability is at most alpha.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        p_values : ndarray of shape (n_samples, n_classes)
            In (0, 1], a column for each of `classes_`.

        Raises
        ------
        ValueError
            If the detector does not use labels, or no rows of one of the classes are compared with.
        """
        return super().class_p_values(X)

    def select(
        self, X: ArrayLike, *, fdr: float = 0.05, method: str = "bh", by_class: bool = False
    ) -> NDArray:
        """Flag rows by a rule that is made to keep the false discovery rate at most `fdr`.

        That is the expected share of normal rows among those that are flagged, 0 where none is.
        For p-values out of fold one bound is proved: 2 `fdr`, with ``method="by"`` and
        ``cv="loo"``. The bounds are those of `method` where rows were held out of all folds, or
        after :meth:`calibrate`. Whether a row is flagged depends on the rows that are asked about
        with it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, all that a decision is made about.
        fdr : float, default=0.05
            In (0, 1).
        method : {"bh", "by", "storey"}, default="bh"
            Step-up rules: "bh", of Benjamini and Hochberg; "storey", which is "bh" with an estimate
            of the share of normal rows, and finds more where many are anomalies; "by", of Benjamini
            and Yekutieli, which holds however p-values depend on each other, and finds the fewest.
        by_class : bool, default=False
            As for :meth:`p_value`.

        Returns
        -------
        selected : ndarray of shape (n_samples,)
            Of type bool, true for rows with a :meth:`q_value` of at most `fdr`.

        Raises
        ------
        ValueError
            If there are no scores out of sample, as for :meth:`p_value`.

        Warns
        -----
        UserWarning
            If no row is selected, and the rows compared with are too few for one row to be.
        """
        return super().select(X, fdr=fdr, method=method, by_class=by_class)

    def _p_values_among(self, X: ArrayLike, held_out: NDArray, codes: NDArray | None) -> NDArray:
        folds = self._folds
        if folds is None or len(folds) != len(held_out):  # calibrated meanwhile
            return super()._p_values_among(X, held_out, codes)
        scores = self._by_model(self._validate(X, reset=False, lazily=True))
        if codes is None:
            return self._p_values_in_folds(scores, held_out, folds)
        each = [codes == code for code in range(codes.max() + 1)]
        return np.column_stack(
            [self._p_values_in_folds(scores, held_out[own], folds[own]) for own in each]
        )

    def _p_values_in_folds(self, scores: NDArray, held_out: NDArray, folds: NDArray) -> NDArray:
        """P-values (n,) of scores (n, models): each row out of fold is compared by its own one."""
        no_higher = [
            np.searchsorted(held_out[folds == k], scores[:, k], side="right")
            for k in range(scores.shape[1])
        ]
        return (1 + np.sum(no_higher, axis=0)) / (1 + len(held_out))
