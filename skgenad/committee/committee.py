"""A committee of detectors: the mean of calibrated scores of a few strong, different members.

Each member's score becomes minus the log of its tail probability among scores that it gave to
training rows it had not seen,

    t_j(x) = -log p_j(x),     p_j(x) = (1 + #{i : E_j(x_i) >= E_j(x)}) / (n + 1),

so that energies E_j of all kinds have one unit. Their mean is, but for a factor, Fisher's statistic
for the hypothesis that every member finds the row normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from skgenad._core.checks import BaseComposition, Interval, StrOptions, fit_context
from skgenad._core.contract import BaseDetector
from skgenad._core.detector import SCORING_CHUNK
from skgenad._core.foreign import HOW_TO_SCORE, fits_and_scores
from skgenad._core.parts import refuse_unused
from skgenad._core.rows import Shape
from skgenad._core.saving import SavingMixin
from skgenad._core.state import clone_of_parameters
from skgenad._core.training import empty_history
from skgenad._tensors.seeds import draw_seed
from skgenad.neighbors._search import share

from ._combine import COMBINE
from ._defaults import default_members, robust_members
from ._files import TABLE
from ._members import (
    Member,
    Named,
    TrainingRows,
    is_pair,
    learned,
    leaves_out,
    refuse_samples,
    rows_for_models,
    shape_of,
    tasks_of,
    uses_labels,
)


class Committee(SavingMixin, BaseComposition, BaseDetector):
    """Detect anomalies by the agreement of a few strong, different detectors.

    On tables that nothing was tuned on it is ahead of each of its members, and of the mean distance
    to five neighbours, which is ahead of most detectors alone. Use it where no one detector
    is known to be right.

    Parameters
    ----------
    members : list of (str, detector) or "robust", default=None
        Names and unfitted detectors: of this package, of scikit-learn, of pyod through
        `skgenad.compat.PyODDetector`, pipelines; all that has ``fit`` and ``score_samples``.
        ``"drop"`` in place of a detector leaves it out. None: "neighbors", `Neighbors`;
        "nearest", with one neighbour, in mixed units; "local", with ``scale="local"``; "kernel",
        `KernelDenoiser` in mixed units. "robust", for training rows of which some are
        anomalies: "neighbors", `Neighbors`; "wide", with 20 neighbours; "distance", `Mahalanobis`;
        "forest", scikit-learn's `IsolationForest`.
    combine : {"mean", "max", "median", "cauchy"}, default="mean"
        How -log tail probabilities of the members become one score. "mean" is Fisher's method,
        "max" the smallest p-value, "cauchy" the Cauchy combination (Liu and Xie, 2020).
    weights : array-like of shape (n_members,), default=None
        Weights of the members, at least 0, with "mean" and "cauchy"; None: all the same.
    folds : int, default=2
        Number of folds, at least 2, in which members without leave-one-out scores are fitted; the
        default members have such scores. Each fold's model is calibrated by the rows of its fold,
        and their tails are averaged.
    contamination : float or "auto", default="auto"
        Share, up to 0.5, of new normal rows that `predict` flags; 0: no row of `fit`; "auto": 0.1.
    calibration_fraction : float or "auto", default="auto"
        Share of rows held out of training for threshold and p-values. "auto": a fifth, if needed.
    n_jobs : int, default=None
        Models to fit at the same time, by joblib; None: 1, -1: one per core.
    random_state : int, RandomState or None, default=None
        Seed of folds, rows held out, and members with ``random_state=None``.
    verbose : int, default=0
        Whether to show a progress bar over the models.

    Attributes
    ----------
    members_ : dict of str to detector
        Fitted members; a list of models, one per fold, of those that were fitted in folds.
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    history_ : DataFrame
        Histories of all members that are trained, with columns ``member`` and ``fold``.
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes. There only with a member with ``use_labels=True``.
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
    Neighbors : The member that is hardest to beat alone.

    Notes
    -----
    With "mean" ``score_samples`` is the mean over members of log p_j(x), in nats: -3 is as unusual
    as one normal row in twenty, by all members. The tail probability is the conformal one at the
    reference scores and continuous between them; beyond the largest it goes on falling, so that
    the order of far rows is never lost. It is a score: p-values with a guarantee are those of
    :meth:`p_value`.

    Reference scores are those of at most 10,000 training rows, each from a model that has not seen
    the row. `Neighbors`, `LocalGaussian` and `KernelDenoiser` leave a training row out by
    themselves, and are fitted once on all rows. With fewer than 4 rows there are no folds, and
    members are calibrated by the rows they were fitted on.

    Members that search among the same training rows share one search. Their own thresholds
    (`contamination`) and `warm_start` have no influence.

    ``save`` takes members that :func:`skgenad.save` takes, as those of this package and
    scikit-learn's; pickle and joblib work with all.

    References
    ----------
    .. [1] R. A. Fisher. Statistical Methods for Research Workers. 1925.
    .. [2] Y. Liu and J. Xie. Cauchy Combination Test: A Powerful Test with Analytic p-Value
       Calculation under Arbitrary Dependency Structures. Journal of the American Statistical
       Association, 2020. https://arxiv.org/abs/1808.09011
    .. [3] C. C. Aggarwal and S. Sathe. Theoretical Foundations and Algorithms for Outlier
       Ensembles. SIGKDD Explorations, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from skgenad import Committee, KernelDenoiser, Neighbors
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> members = [("near", Neighbors()), ("kernel", KernelDenoiser())]
    >>> committee = Committee([*members, ("forest", IsolationForest())], random_state=0).fit(X)
    >>> committee.predict(np.full((1, 5), 9.0))
    array([-1])
    >>> list(committee.member_scores(X[:2]))
    ['near', 'kernel', 'forest']
    >>> committee.set_params(forest="drop", near__n_neighbors=3).fit(X).predict(np.zeros((1, 5)))
    array([1])
    """

    _table = TABLE
    _reads_lazily = True
    _parameter_constraints: ClassVar[dict] = {
        "members": [list, tuple, StrOptions({"robust"}), None],
        "combine": [StrOptions(set(COMBINE))],
        "weights": ["array-like", None],
        "folds": [Interval(Integral, 2, None, closed="left")],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
        **BaseDetector._parameter_constraints,
    }

    def __init__(
        self,
        members: Named | str | None = None,
        *,
        combine: str = "mean",
        weights: Sequence[float] | None = None,
        folds: int = 2,
        contamination: float | str = "auto",
        calibration_fraction: float | str = "auto",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.members = members
        self.combine = combine
        self.weights = weights
        self.folds = folds
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # ---- parameters -----------------------------------------------------------------------

    @property
    def _named(self) -> list[tuple[str, Any]]:
        """Names and members, the default ones if none were given."""
        if isinstance(self.members, str):
            return robust_members()
        return default_members() if self.members is None else self.members  # type: ignore[return-value]

    @_named.setter
    def _named(self, members: list[tuple[str, Any]]) -> None:
        self.members = members

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, with `deep` those of the members as ``<name>__<parameter>``, too.

        Parameters
        ----------
        deep : bool, default=True
            Whether to list members, and their parameters, by their names.

        Returns
        -------
        parameters : dict
            Values by names. Those of the default members are there as well.
        """
        try:
            return self._get_params("_named", deep=deep)
        except (TypeError, ValueError):  # what is no list of pairs is refused in `fit`
            return super().get_params(deep=False)

    def set_params(self, **parameters: Any) -> Self:
        """Set parameters of the committee, members by their names, and parameters of members.

        Parameters
        ----------
        **parameters : dict
            As :meth:`get_params` names them; ``mpdr="drop"`` leaves a member out.

        Returns
        -------
        self : object
            The committee.
        """
        before = self.members
        try:
            # All other names are those of the new members.
            self.members = parameters.pop("members", before)
            by_name = not set(parameters) <= set(self._get_param_names())
            if by_name and (self.members is None or isinstance(self.members, str | tuple)):
                self.members = list(self._named)
            if by_name:
                self._set_params("_named", **parameters)
            else:  # what is no list of pairs is refused in `fit`
                super().set_params(**parameters)
        except BaseException:
            self.members = before
            raise
        return self

    def _voters(self) -> tuple[Named, NDArray]:
        """Members that are not dropped, checked, and their weights, whose sum is 1."""
        members = self._named
        if not members or not all(map(is_pair, members)):
            raise ValueError(
                f"members={self.members!r} must be a list of pairs of a name and a detector, one "
                "at least, such as [('mpdr', MPDR()), ('neighbors', Neighbors())]."
            )
        self._validate_names([name for name, _ in members])
        weights = self._checked_weights(len(members))
        kept = [j for j, (_, member) in enumerate(members) if member != "drop"]
        for name, member in (members[j] for j in kept):
            refuse_samples(member, self)
            if not fits_and_scores(member):
                raise ValueError(
                    f"member {name!r} must be an unfitted detector with fit and score_samples, "
                    f"got {member!r}. {HOW_TO_SCORE}"
                )
        if not kept or weights[kept].sum() <= 0:
            raise ValueError("All members are dropped or have a weight of 0; keep one at least.")
        return [members[j] for j in kept], weights[kept] / weights[kept].sum()

    def _checked_weights(self, n: int) -> NDArray:
        if self.weights is None:
            return np.ones(n)
        if self.combine not in ("mean", "cauchy"):
            refuse_unused(self, ("weights",), f"combine={self.combine!r} has no weights")
        try:
            weights = np.asarray(self.weights, dtype=np.float64)
        except (TypeError, ValueError):
            weights = np.empty(0)
        if weights.shape != (n,) or not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError(
                f"weights={self.weights!r} must hold a number of at least 0 for each of the {n} "
                "members."
            )
        return weights

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
        """Fit every member, out of sample, and take the units of their scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, at least 2, taken as normal but for the share `contamination`.
        y : array-like of shape (n_samples,), default=None
            Classes of the rows for members with ``use_labels=True``; all others ignore it.
        groups : array-like of shape (n_samples,), default=None
            Labels of groups, such as persons or machines: whole groups are held out.
        calibration : {"random", "last", "none"} or array-like, default="random"
            Which rows `calibration_fraction` holds out; "last", for series: the last ones; "none":
            none this time. A mask or places of rows names them itself.

        Returns
        -------
        self : object
            The fitted committee. If `fit` is interrupted or fails, it stays what it was before.

        Raises
        ------
        ValueError
            If the members are no list of named detectors, or a parameter has no effect.
        """
        with self._all_or_nothing():
            voters, weights = self._voters()
            if all(leaves_out(member) for _, member in voters):
                refuse_unused(self, ("folds",), "every member leaves training rows out by itself")
            X, codes = self._validate_labelled(X, y, reset=True, ensure_min_samples=2)
            self._image_shape = shape_of(voters)
            self.seed_ = draw_seed(self.random_state)
            train, codes, held_out, known = self._split_calibration(X, codes, groups, calibration)
            labels = None if codes is None else self.classes_[codes]
            rows = TrainingRows.of(train, labels, self._image_shape, self._names)
            self._keep_reference(rows.clean, self.seed_)
            self._members, tails, seen = self._learn(voters, rows, codes)
            self._share_searches()
            self._weights = weights
            # What the members were made from: `set_params` may change them before a `save`.
            self._fitted_parameters = clone_of_parameters(self)
            tables = [table for member in self._members for table in member.history]
            self.history_ = pd.concat(tables, ignore_index=True) if tables else empty_history()
            if held_out is None and codes is not None:
                known = codes[seen]
            scores = None if tails is None else self._combined(tails)
            self._set_threshold(X, held_out, scores, labels=known)
        return self

    def _learn(
        self, voters: Named, rows: TrainingRows, codes: NDArray | None
    ) -> tuple[list[Member], NDArray | None, NDArray]:
        """Fit members; give tails (n, members) of rows by models without them, and their places."""
        tasks = tasks_of(voters, len(rows.table), self.folds, self.seed_, codes)
        calls = (delayed(learned)(voters[task.member][1], task, rows) for task in tasks)
        parallel = Parallel(n_jobs=self.n_jobs, return_as="generator")
        members = [Member(name) for name, _ in voters]
        # Of very many rows some are references, the same ones for all members.
        seen = np.unique(np.concatenate([task.reference for task in tasks]))
        tails = np.empty((len(seen), len(voters)))
        with tqdm(tasks, desc="members", disable=not self.verbose) as bar:
            for task, (model, tail, known) in zip(bar, parallel(calls), strict=True):
                bar.set_postfix_str(members[task.member].name, refresh=False)
                members[task.member].models.append(model)
                members[task.member].tails.append(tail)
                tails[np.searchsorted(seen, task.reference), task.member] = known
        out_of_sample = all(t.train is not None or leaves_out(voters[t.member][1]) for t in tasks)
        return members, tails if out_of_sample else None, seen

    @property
    def _scores_training_rows(self) -> bool:
        return True

    @property
    def _uses_labels(self) -> bool:
        pairs = filter(is_pair, self._named)
        return any(uses_labels(member) for _, member in pairs)

    def _shape(self, reset: bool) -> Shape | None:
        return shape_of(self._voters()[0]) if reset else self._image_shape

    # ---- score ----------------------------------------------------------------------------

    def _score(self, X: NDArray) -> NDArray:
        return self._combined(self._tails(X))

    def _combined(self, tails: NDArray) -> NDArray:
        return -COMBINE[self._fitted_parameters["combine"]](tails, self._weights)

    def _tails(self, X: NDArray) -> NDArray:
        """Minus log tail probabilities (n, members) of rows, chunk by chunk for shared searches."""
        tails = np.empty((len(X), len(self._members)))
        for start in range(0, len(X), SCORING_CHUNK):
            chunk = slice(start, start + SCORING_CHUNK)
            rows = rows_for_models(X[chunk], self._image_shape, self._names)
            tails[chunk] = np.column_stack([member.tail(rows) for member in self._members])
        return tails

    def _share_searches(self) -> None:
        share(model for member in self._members for model in member.models)

    @property
    def members_(self) -> dict[str, Any]:
        """Fitted members by their names; a list, one per fold, of those that were cross-fitted."""
        check_is_fitted(self, "_members")
        return {m.name: m.models[0] if len(m.models) == 1 else m.models for m in self._members}

    def member_scores(self, X: ArrayLike) -> pd.DataFrame:
        """Score rows by every member alone, in the unit that the committee scores in.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : DataFrame of shape (n_samples, n_members)
            Log tail probabilities, in nats; higher is more normal. Columns are the members' names.
        """
        check_is_fitted(self)
        tails = self._tails(self._validate(X, reset=False))
        return pd.DataFrame(-tails, columns=[member.name for member in self._members])

    # ---- files ----------------------------------------------------------------------------

    @classmethod
    def _parameters_of_file(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        members = parameters.get("members")
        if isinstance(members, list):  # format 2 has lists in place of pairs
            parameters = {**parameters, "members": [tuple(pair) for pair in members]}
        return parameters

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_members" in self.__dict__:  # pickles made on another device hold a copy for each
            self._share_searches()

    def _settle(self) -> None:
        names, read = [name for name, _ in self._voters()[0]], [m.name for m in self._members]
        # Those of a committee without a list of members are what they were in the version that
        # wrote.
        if isinstance(self.members, list) and read != names:
            raise ValueError(f"members {read} where the parameters have {names}")
        self._share_searches()
