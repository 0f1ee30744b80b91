"""Features of one detector for another."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_array, check_is_fitted

from skgenad._core.calibration import hold_out_nothing
from skgenad._core.checks import CheckedParameters, HasMethods, fit_context
from skgenad._core.forks import leave_parents_threads
from skgenad._core.rows import image_shape_of, validate_rows
from skgenad._core.versions import VersionedPickle
from skgenad._tensors.model import Model


class LatentFeatures(
    VersionedPickle, ClassNamePrefixFeaturesOutMixin, TransformerMixin, CheckedParameters
):
    """Latent features of a detector's autoencoder, and rows from them.

    Parameters
    ----------
    detector : Autoencoder, CANCE, DAGMM, GANomaly, NAE, PWAE, VAE, VQVAE, WAE or MPDR
        A detector that trains one autoencoder; MPDR's is that of its reconstruction energy, CANCE's
        that of ``features="autoencoder"``. A clone of it is fitted; wrap a trained one in
        ``sklearn.frozen.FrozenEstimator`` to use it as it is.

    Attributes
    ----------
    detector_ : object
        The fitted detector.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if all are strings.

    See Also
    --------
    skgenad.CANCE : Density of latent features and errors; takes this as `features`.

    Notes
    -----
    Latent features of a VAE are the means of its posterior.

    Examples
    --------
    DAGMM-CANCE: DAGMM learns the features, CANCE their density.

    >>> import numpy as np
    >>> from skgenad import CANCE, DAGMM
    >>> from skgenad.preprocessing import LatentFeatures
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> features = LatentFeatures(DAGMM(max_steps=50, random_state=0))
    >>> features.fit_transform(X).shape
    (200, 4)
    >>> detector = CANCE(features=features, max_steps=100, random_state=0).fit(X)
    >>> detector.predict(np.full((1, 5), 20.0))
    array([-1])
    """

    _parameter_constraints: ClassVar[dict] = {"detector": [HasMethods(["fit", "score_samples"])]}

    def __init__(self, detector: Any) -> None:
        self.detector = detector

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Fit a clone of the detector.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,), default=None
            Passed on to the detector.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        rows = self._validate(X, reset=True, ensure_min_samples=2)
        model = clone(self.detector)
        hold_out_nothing(model)  # no threshold is made
        self.detector_ = model.fit(rows, y)
        self._n_features_out = self._encode(rows[:1]).shape[1]
        return self

    def transform(self, X: ArrayLike) -> NDArray:
        """Latent features of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of the training rows.

        Returns
        -------
        features : ndarray of shape (n_samples, n_latent)
            Float64, with the digits of float32.
        """
        check_is_fitted(self)
        return self._encode(self._validate(X, reset=False))

    def inverse_transform(self, X: ArrayLike) -> NDArray:
        """Rows that the decoder makes of latent features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_latent)
            Latent features.

        Returns
        -------
        rows : ndarray of shape (n_samples, n_features)
            Float64, in the units of the training rows.
        """
        check_is_fitted(self)
        leave_parents_threads()
        codes = check_array(X, dtype=np.float32)
        if codes.shape[1] != self._n_features_out:
            raise ValueError(
                f"X has {codes.shape[1]} latent features, but those of this "
                f"{type(self).__name__} are {self._n_features_out}."
            )
        return self._decode(codes)

    def _validate(self, X: ArrayLike, *, reset: bool, **checks: Any) -> NDArray:
        parameters = (self.detector if reset else self.detector_).get_params(deep=False)
        shape = image_shape_of(parameters)
        return validate_rows(self, X, image_shape=shape, reset=reset, **checks)

    def _encode(self, rows: NDArray) -> NDArray:
        return self.detector_._by_chunks(rows, _autoencoder(self.detector_).encode)

    def _decode(self, codes: NDArray) -> NDArray:
        return self.detector_._by_chunks(
            codes,
            _autoencoder(self.detector_).decode,
            self.detector_.units_.from_standard,
            begin=np.ascontiguousarray,
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = get_tags(self.detector).target_tags.required
        return tags


def _autoencoder(detector: Any) -> Any:
    """Find the one part of a fitted detector with ``encode`` and ``decode``."""
    module = getattr(detector, "module_", None)
    found = module.autoencoders if isinstance(module, Model) else []
    if len(found) != 1:
        raise TypeError(
            f"detector={detector!r} has {len(found)} autoencoders to take latent features from; "
            "needed is one. Use Autoencoder, DAGMM, GANomaly, NAE, PWAE, VAE, VQVAE, WAE, CANCE "
            "with features='autoencoder' or MPDR with energy='reconstruction'."
        )
    return found[0]
