"""Likelihood ratios: how much likelier a row is under its own distribution than under a wider one.

A specific model p_in is fitted to normal rows and a general one p_g to rows of all kinds. The score

    log p_in(x) - log p_g(x)                                                             (eq. 1)

leaves out what both know. Of two flows it may be that of what one scale adds to them (Table 2).
Training goes: fit p_g; fit p_in, from the weights of p_g on and, if so asked, against rows of all
kinds as outliers (``_outliers``); train p_g on against normal rows.

Equations and sections are those of Schirrmeister et al. (2020), 3 and S4. The length of a PNG file
(``_png``), after Serra et al. (2020), may stand for p_g.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from skgenad._core.calibration import hold_out_nothing
from skgenad._core.checks import HasMethods, Interval, StrOptions, fit_context
from skgenad._core.contract import BaseDetector
from skgenad._core.departures import apart_from_constants
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.general_rows import general_rows
from skgenad._core.parts import refuse_unused
from skgenad._core.reference import forget_rows
from skgenad._core.rows import Shape, image_shape_of
from skgenad._core.saving import SavingMixin
from skgenad._core.state import clone_of_parameters
from skgenad._tensors.seeds import derived_seed, draw_seed, seed_unseeded

from ._outliers import OutlierObjective
from ._png import PNGModel
from ._ratio_files import TABLE, check_models
from ._ratio_models import (
    check_scales,
    finite,
    is_frozen,
    is_trained,
    log_term,
    untrained,
    unwrapped,
)
from .mahalanobis import Mahalanobis

__all__ = ["LikelihoodRatio"]

# Default factors of the losses: the paper's lambda, and that of the margin loss beside it.
_PENALTIES = {"ratio": 6000.0, "margin": 1.0}
_MODEL = HasMethods(["fit", "log_density"])


class LikelihoodRatio(SavingMixin, BaseDetector):
    """Detect anomalies by the ratio of two likelihoods (Schirrmeister et al., 2020).

    The likelihood of a row is dominated by what all rows of its kind have in common: of images, by
    how smooth they are. A general model, of rows of all kinds, knows that as well as a specific
    one, of normal rows. The difference log p_in(x) - log p_g(x) is what is special about normal
    rows.

    Parameters
    ----------
    detector : detector with a log density, default=None
        The specific model: an estimator with ``log_density(X)``, in nats and in the units of X,
        which is cloned and fitted to the rows. ``sklearn.frozen.FrozenEstimator`` keeps a fitted
        one as it is. None: ``Mahalanobis()``, a Gaussian. A detector with ``use_labels=True`` gets
        the classes `y` of the rows.
    general : detector with a log density or "png", default=None
        The general model, fitted to `X_general`, or kept as it is if frozen. None: one like
        `detector`, without classes. "png": the length of the image as a PNG file, for a detector
        with ``image_shape=(1 or 3, H, W)``; needs the extra ``images``.
    score_type : {"likelihood", "last_scale"} or int, default="likelihood"
        What the ratio is of: the likelihoods or, with two models that have ``scale_contributions``
        (`Glow` of images), the contribution of the last scale to each, or that of another, from 1.
    outlier_loss : {"ratio", "margin"} or None, default=None
        Loss on rows of `X_general` by which training lowers the specific model's likelihood there.
        "ratio": -log sigmoid((log p_g - log p_in) / temperature), eq. 2. "margin": the hinge
        max(0, D + log p_in(x_g) - log p_in(x)) for D columns (Hendrycks et al., 2019). The detector
        must be trained by gradients and have a log density that can be differentiated, as `Glow`,
        `PixelCNN`, `NormalizingFlow` and `VAE` have.
    outlier_side : {"in", "both"}, default="in"
        Whether the general model, too, is trained on, with training rows as its outliers, once the
        specific one is there (section 5.3). Only with an outlier loss.
    temperature : float, default=1000
        T of the loss "ratio", in nats, above 0; no other has one. The default is the paper's for
        images of 3,072 numbers; log ratios of a table with few columns are far smaller, and so
        should T be.
    outlier_penalty : float, default=None
        Factor of the outlier loss, above 0, beside the detector's own loss, which is in nats per
        row in the detectors named above. None: the paper's, 6000 for "ratio" and 1 for "margin",
        where a larger one is too large if normal rows are among the outliers.
    finetune : bool, default=True
        Whether training of the specific model begins from the general one's weights, and in its
        units of columns. False only where both have weights, and the specific one is not frozen.
    contamination : float or "auto", default="auto"
        Share, up to 0.5, of new normal rows that `predict` flags; 0: no row of `fit`; "auto": 0.1.
    calibration_fraction : float or "auto", default="auto"
        Share of rows held out of training for threshold and p-values. "auto": a fifth, if needed.
    random_state : int, RandomState or None, default=None
        Seed of the rows held out, of shuffled columns, and of models with ``random_state=None``.

    Attributes
    ----------
    detector_ : detector
        The fitted specific model. Its ``history_`` has the outlier loss as ``outlier_loss``, and
        that of rows of other classes as ``class_loss``.
    general_ : detector
        The fitted general model.
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    calibration_scores_ : ndarray or None
        Sorted scores, out of sample, that the threshold and p-values come from.
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes. There only with a detector with ``use_labels=True``.
    seed_ : int
        Seed drawn from `random_state`.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if all are strings.

    See Also
    --------
    Mahalanobis : With ``relative=True`` the same idea for two Gaussians, without their volumes.
    PixelCNN : An autoregressive model of images.
    VAE : A lower bound of the likelihood.
    skgenad.compat.DiscriminativeRatio : The same ratio by a classifier, without densities.

    Notes
    -----
    ``score_samples`` is log p_in(x) - log p_g(x) in nats, a pure number: both densities are in the
    units of X. A log density that is not finite counts as -3,000,000 (S4.5); nothing else is
    clipped. A detector's own ``score_type`` has no part in it, nor that of the ratio in losses.

    Without `X_general` the general model learns training rows whose columns have been shuffled,
    each by itself. It knows what is usual in each column, and the ratio asks how well columns go
    together. A row that is odd in single columns only is left to other detectors, and one that is
    farther out along the direction of a correlation than any normal row even scores high.

    In a pipeline `X_general` reaches this estimator through metadata routing, with
    ``set_fit_request(X_general=True)``, or as the fit parameter ``<step>__X_general``.

    ``save`` takes models that :func:`skgenad.save` takes, as those of this package; pickle and
    joblib work with all.

    References
    ----------
    .. [1] R. T. Schirrmeister et al. Understanding Anomaly Detection with Deep Invertible Networks
       through Hierarchies of Distributions and Features. NeurIPS 2020.
       https://arxiv.org/abs/2006.10848
    .. [2] J. Serra et al. Input Complexity and Out-of-Distribution Detection with Likelihood-Based
       Generative Models. ICLR 2020. https://arxiv.org/abs/1909.11480
    .. [3] D. Hendrycks, M. Mazeika and T. Dietterich. Deep Anomaly Detection with Outlier Exposure.
       ICLR 2019. https://arxiv.org/abs/1812.04606

    Examples
    --------
    Normal rows are few among rows of all kinds, and not the likeliest of them:

    >>> import numpy as np
    >>> from skgenad import LikelihoodRatio, Mahalanobis
    >>> rng = np.random.RandomState(0)
    >>> of_all_kinds = rng.randn(2000, 5) * [1, 1, 1, 1, 9]
    >>> normal = rng.randn(200, 5) + [0, 0, 0, 1.5, 0]
    >>> smooth = 0.1 * rng.randn(5, 5)
    >>> alone = Mahalanobis().fit(normal)
    >>> ratio = LikelihoodRatio(Mahalanobis()).fit(normal, X_general=of_all_kinds)
    >>> float((alone.score_samples(normal) > alone.score_samples(smooth).max()).mean()) < 0.5
    True
    >>> float((ratio.score_samples(normal) > ratio.score_samples(smooth).max()).mean()) > 0.8
    True
    """

    detector_: Any
    general_: Any

    _table = TABLE
    _parameter_constraints: ClassVar[dict] = {
        "detector": [_MODEL, None],
        "general": [StrOptions({"png"}), _MODEL, None],
        "score_type": [
            StrOptions({"likelihood", "last_scale"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "outlier_loss": [StrOptions({"ratio", "margin"}), None],
        "outlier_side": [StrOptions({"in", "both"})],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "outlier_penalty": [Interval(Real, 0, None, closed="neither"), None],
        "finetune": ["boolean"],
        **BaseDetector._parameter_constraints,
    }

    def __init__(
        self,
        detector: Any = None,
        general: Any = None,
        *,
        score_type: str | int = "likelihood",
        outlier_loss: str | None = None,
        outlier_side: str = "in",
        temperature: float = 1000,
        outlier_penalty: float | None = None,
        finetune: bool = True,
        contamination: float | str = "auto",
        calibration_fraction: float | str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.detector = detector
        self.general = general
        self.score_type = score_type
        self.outlier_loss = outlier_loss
        self.outlier_side = outlier_side
        self.temperature = temperature
        self.outlier_penalty = outlier_penalty
        self.finetune = finetune
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.random_state = random_state

    # ---- fit ------------------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        X_general: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        calibration: str | ArrayLike = "random",
    ) -> Self:
        """Fit the general model, then the specific one, and set the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Normal rows, at least 2.
        y : array-like of shape (n_samples,), default=None
            Classes of the rows if the detector has ``use_labels=True``; else ignored.
        X_general : array-like of shape (n_general, n_features), default=None
            Rows of the general distribution, normal ones among them or not, at least 2. None: the
            training rows with each column shuffled by itself.
        groups : array-like of shape (n_samples,), default=None
            Labels of groups, such as persons or machines: whole groups are held out.
        calibration : {"random", "last", "none"} or array-like, default="random"
            Which rows `calibration_fraction` holds out; "last", for series: the last ones; "none":
            none this time. A mask or places of rows names them itself.

        Returns
        -------
        self : object
            The fitted detector. If `fit` is interrupted or fails, it stays what it was before.

        Raises
        ------
        ValueError
            If the models and the parameters do not go together, or `X_general` would have no use.
        """
        with self._all_or_nothing():
            X, labels = self._validate_labelled(X, y, reset=True, ensure_min_samples=2)
            self._image_shape = self._shape(reset=True)
            self._fitted_parameters = clone_of_parameters(self)
            self.seed_ = draw_seed(self.random_state)
            parts = self._split_calibration(X, labels, groups, calibration)
            train, codes, held_out, known = parts
            specific, general = self._make_models()
            self._check_combinations(specific, general, X_general is not None)
            wide = general_rows(self, train, X_general)
            self.general_ = unwrapped(general.fit(self._named(wide, general), None))
            self.detector_ = self._fit_specific(specific, train, codes, wide)
            if self.outlier_side == "both":
                self.general_ = self._train_against(
                    clone(self.general_), wide, None, train, self.detector_, start=self.general_
                )
            for model, made in ((self.detector_, specific), (self.general_, general)):
                if not is_frozen(made):
                    forget_rows(model)
            self._keep_reference(train, self.seed_)
            self._set_threshold(X, held_out, labels=known)
        return self

    @property
    def _template(self) -> Any:
        """The specific model as it was given, without its wrapper."""
        return Mahalanobis() if self.detector is None else unwrapped(self.detector)

    @property
    def _uses_labels(self) -> bool:
        return bool(getattr(self._template, "_uses_labels", False)) and not is_frozen(self.detector)

    def _shape(self, reset: bool) -> Shape | None:
        return image_shape_of(vars(self._template)) if reset else self._image_shape

    def _make_models(self) -> tuple[Any, Any]:
        """Models to fit, specific and general; frozen ones are the user's own."""
        specific = clone(Mahalanobis() if self.detector is None else self.detector)
        if isinstance(self.general, str):
            general: Any = self._png()
        elif self.general is not None:
            general = clone(self.general)
        else:
            general = clone(self._template)
            # It has no classes, and there are no weights yet that could be kept.
            alone = {"use_labels": False, "trained_scales": None}
            own = general.get_params(deep=False)
            general.set_params(**{name: v for name, v in alone.items() if name in own})
        for number, model in enumerate((specific, general)):
            if not is_frozen(model):
                seed_unseeded(model, derived_seed(self.seed_, number))
                hold_out_nothing(model)
        return specific, general

    def _png(self) -> PNGModel:
        shape = image_shape_of(vars(self._template))
        if shape is None:
            raise ValueError(
                "general='png' compresses images, but the detector "
                f"{type(self._template).__name__} has no image_shape. Give it one, "
                "image_shape=(channels, height, width), or use a detector as the general model."
            )
        return PNGModel(shape)

    def _check_combinations(self, specific: Any, general: Any, has_general_rows: bool) -> None:
        """Raise ValueError for values that are possible alone but not together."""
        fitted = is_frozen(general) or isinstance(general, PNGModel)
        if has_general_rows and fitted and self.outlier_loss is None:
            raise ValueError(
                "X_general has no use: the general model is there already, and outlier_loss=None. "
                "Leave it out."
            )
        check_scales(self.score_type, specific, general)
        self._refuse_unused(specific, general)
        if self.outlier_loss is not None and not is_trained(specific):
            raise ValueError(untrained("detector", specific, "outlier_loss"))
        if self.outlier_side == "both" and not is_trained(general):
            raise ValueError(untrained("general", general, "outlier_side='both'"))
        ours, theirs = type(specific), type(unwrapped(general))
        starts = self.finetune and is_trained(specific) and not isinstance(general, PNGModel)
        if starts and ours is not theirs:
            raise ValueError(
                f"finetune=True starts the {ours.__name__} from the weights of the general model, "
                f"which is a {theirs.__name__}. Use two of a kind, or finetune=False."
            )

    def _refuse_unused(self, specific: Any, general: Any) -> None:
        """Raise ValueError for parameters that would have no effect."""
        if self.outlier_loss is None:
            names = ("outlier_side", "temperature", "outlier_penalty")
            refuse_unused(self, names, "outlier_loss=None has no loss on outliers")
        if self.outlier_loss == "margin":
            refuse_unused(self, ("temperature",), "outlier_loss='margin' has none")
        if not is_trained(specific) or isinstance(general, PNGModel):
            without = general if is_trained(specific) else specific
            state = "frozen" if is_frozen(without) else "not trained by gradients"
            why = f"{type(unwrapped(without)).__name__} is {state}"
            refuse_unused(self, ("finetune",), why)

    def _fit_specific(
        self, model: Any, train: NDArray, codes: NDArray | None, wide: NDArray
    ) -> Any:
        start = self.general_ if self.finetune and is_trained(self.general_) else None
        labels = None if codes is None else self.classes_[codes]
        if self.outlier_loss is not None:
            return self._train_against(model, train, labels, wide, self.general_, start)
        if is_trained(model) and start is not None:
            return model.fit_from(train, labels, start=start)
        return unwrapped(model.fit(self._named(train, model), labels))

    def _train_against(
        self,
        model: BaseGenerativeDetector,
        rows: NDArray,
        labels: NDArray | None,
        outliers: NDArray,
        other: Any,
        start: Any,
    ) -> BaseGenerativeDetector:
        """Fit a model to rows, with outliers that `other` explains."""
        kind = str(self.outlier_loss)
        outliers = self._as_many_as_needed(model, outliers)
        extra_objective = OutlierObjective(
            model,
            outliers,
            self._log_density(other, outliers),
            kind=kind,
            penalty=_PENALTIES[kind] if self.outlier_penalty is None else self.outlier_penalty,
            temperature=self.temperature,
            other=lambda X: self._log_density(other, X),
            with_classes=labels is not None,
        )
        return model.fit_from(rows, labels, start=start, extra_objective=extra_objective)

    def _as_many_as_needed(self, model: Any, rows: NDArray) -> NDArray:
        """Take some of the rows if training is too short to see all of them."""
        n_seen = model.batch_size * getattr(model, "max_steps", len(rows))
        if n_seen >= len(rows):
            return rows
        chosen = np.random.RandomState(self.seed_).choice(len(rows), n_seen, replace=False)
        return rows[chosen]

    # ---- files ----------------------------------------------------------------------------

    def _settle(self) -> None:
        check_models(self)

    # ---- score ----------------------------------------------------------------------------

    def _score(self, X: NDArray) -> NDArray:
        # Densities are of columns that vary, and what both models pay for others would cancel.
        rows, costs = apart_from_constants(X, self.detector_)
        log_in = finite(self._log_term(self.detector_, rows)) - costs
        rows, _ = apart_from_constants(X, self.general_)
        return log_in - finite(self._log_term(self.general_, rows))

    def _log_term(self, model: Any, X: NDArray) -> NDArray:
        """Log densities, or what a scale adds to them, whatever `set_params` said since the fit."""
        return log_term(model, self._named(X, model), self._fitted_parameters["score_type"])

    def _log_density(self, model: Any, X: NDArray) -> NDArray:
        return log_term(model, self._named(X, model), "likelihood")

    def _named(self, X: NDArray, model: Any) -> Any:
        """Rows with names of columns for a model that was fitted with them."""
        if hasattr(self, "feature_names_in_") and hasattr(model, "feature_names_in_"):
            return pd.DataFrame(X, columns=self.feature_names_in_)
        return X
