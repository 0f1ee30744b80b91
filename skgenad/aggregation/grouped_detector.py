"""A detector of samples that have several parts each, such as sounds, by these parts.

With E the energy of the detector that is fitted on the parts of all samples, and x_1 to x_k the
parts of a sample, its score is ``- mean of E(x_i)``, ``- max of E(x_i)``, or the mean of the
highest ones. The mean over frames is how DCASE 2020's task 2, and MPDR's Table 5, score a clip.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skgenad._core.checks import fit_context
from skgenad._core.streams import together

from ._instances import InstanceDetector, Instances


class GroupedDetector(InstanceDetector):
    """Score samples that have several parts each, such as sounds of frames, by their parts.

    Parameters
    ----------
    detector : estimator, default=None
        Unfitted detector of rows: of this package, scikit-learn's, or a pipeline that ends in one.
        None: ``Mahalanobis(shrinkage="auto")``.
    features : transformer, default=None
        Makes of n samples a list of n arrays (k, d), the k parts of each, such as
        ``LogMelFrames()`` of sounds. A clone of it is fitted. None: X is such a list.
    reduce : {"mean", "max"} or float, default="mean"
        How a sample's score is made of those of its parts: by all of them, the most anomalous one,
        or the mean of that share of them which is most anomalous, in (0, 1].
    max_rows : int, default=100000
        Most parts that are kept for the fit. Of more, so many are drawn at random of all.
    contamination : float or "auto", default="auto"
        Share, up to 0.5, of new normal rows that `predict` flags; 0: no row of `fit`; "auto": 0.1.
    calibration_fraction : float or "auto", default="auto"
        Share of rows held out of training for threshold and p-values. "auto": a fifth, if needed.
    random_state : int, RandomState or None, default=None
        Seed of the parts that are drawn, the samples held out, and a detector with
        ``random_state=None``.

    Attributes
    ----------
    detector_ : detector
        The fitted model.
    features_ : transformer or None
        The fitted features.
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    history_ : DataFrame
        History of the model, if it has one, with columns ``member`` and ``fold``.
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
    skgenad.PatchDetector : The same for images, with maps.
    skgenad.preprocessing.LogMelFrames : Frames of sounds.
    skgenad.preprocessing.SlidingWindows : Windows of one series, with scores of its time steps.

    Notes
    -----
    Rows are samples here: they are scored, held out and flagged as wholes, since their parts are no
    independent draws. Columns are those that `detector` sees, the features of a part.

    ``score_samples`` is in the detector's unit. Samples are looked at a few at a time.

    Where X is a table, each row is a sample of one part: then this is `detector`, with rows held
    out.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import GroupedDetector, Mahalanobis
    >>> rng = np.random.RandomState(0)
    >>> X = [rng.randn(rng.randint(5, 20), 3) for _ in range(50)]
    >>> detector = GroupedDetector(Mahalanobis(), random_state=0).fit(X)
    >>> odd = rng.randn(12, 3) + 2
    >>> detector.predict([odd])
    array([-1])
    >>> [scores.shape for scores in detector.instance_scores([odd])]
    [(12,)]
    """

    _words = ("part", "parts")
    _parameter_constraints: ClassVar[dict] = InstanceDetector._parameter_constraints

    def __init__(
        self,
        detector: Any = None,
        *,
        features: Any = None,
        reduce: str | float = "mean",
        max_rows: int = 100_000,
        contamination: float | str = "auto",
        calibration_fraction: float | str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.detector = detector
        self.features = features
        self.reduce = reduce
        self.max_rows = max_rows
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        calibration: str | ArrayLike = "random",
    ) -> Self:
        """Fit the detector on the parts of samples.

        Parameters
        ----------
        X : list of array-like of shape (k, d), or what `features` takes
            Normal samples, at least 2.
        y : None
            Ignored.
        groups : array-like of shape (n_samples,), default=None
            Labels of groups, such as machines: whole groups are held out.
        calibration : {"random", "last", "none"} or array-like, default="random"
            Which samples `calibration_fraction` holds out; "last", for series: the last ones;
            "none": none this time. A mask or places names them itself.

        Returns
        -------
        self : object
            The fitted detector. If `fit` is interrupted or fails, it stays what it was before.

        Raises
        ------
        TypeError
            If `detector` has no ``fit`` or no ``score_samples``, or `features` is no transformer.
        ValueError
            If parts are no rows of one length.
        """
        return self._fit(X, groups, calibration)

    @property
    def detector_(self) -> Any:
        """The fitted model."""
        if "_models" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no detector_ before fit")
        return self._models[0]

    def instance_scores(self, X: ArrayLike) -> list[NDArray]:
        """Scores of the parts of samples; higher is more normal.

        Parameters
        ----------
        X : list of array-like of shape (k, d), or what `features` takes
            Samples.

        Returns
        -------
        scores : list of ndarray of shape (k,)
            Float64, one array for each sample, of which `reduce` makes ``score_samples``.
        """
        return self._score_instances(X)

    def _arranged(self, made: Any) -> Instances:
        parts = [np.asarray(part) for part in made]
        if all(part.ndim == 1 for part in parts):  # features of whole samples
            parts = [part[None] for part in parts]
        shapes = [part.shape for part in parts]
        if not all(len(shape) == 2 and 0 not in shape for shape in shapes):
            raise ValueError(
                "A sample is an array (k, d) of the d features of each of its k parts, one at "
                f"least; got the shapes {list(dict.fromkeys(shapes))[:3]}."
            )
        if len({shape[1] for shape in shapes}) > 1:
            raise ValueError(
                f"Parts have {sorted({shape[1] for shape in shapes})} features; all samples must "
                "have as many for each part."
            )
        kinds = [p if p.dtype in (np.float32, np.float64) else p.astype(float) for p in parts]
        return Instances(together(kinds), np.array([len(part) for part in parts]))

    @property
    def _how_to_look(self) -> str:
        return "instance_scores(X) has the scores of parts."
