"""Composite features of a row: its latent features and how well they reconstruct it.

What maps rows to latent features and back is an nn.Module with ``forward(x) -> (code, x')`` of rows
in standard units, and `latent_dim`: a two-stage autoencoder, principal components, or an object of
the user's (see :mod:`skgenad.autoencoders._external`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skgenad._tensors.chunks import Rows, chunks_of
from skgenad._tensors.device import precise
from skgenad._tensors.distances import mean_squared_error
from skgenad._tensors.moments import TiedMoments
from skgenad._tensors.networks import Networks
from skgenad._tensors.products import steady_product

_NORM_FLOOR = 1e-12
_VARIANCE_FLOOR = 1e-5
# Share of a new batch in the running moments; torch has the same for batch normalisation.
_MOMENTUM = 0.1
# Squared errors below this share of the row's mean square are float32's rounding of the row.
_ROUNDING = 1e-12


def cosine_dissimilarity(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Half of one minus the cosine of rows, (n,), in [0, 1].

    It is computed as a quarter of the squared distance of unit vectors, so that nothing cancels
    where they agree. A row of zeros has no direction: 1 / 4 beside another row, 0 beside zeros.
    """
    one = F.normalize(x, dim=1, eps=_NORM_FLOOR)
    other = F.normalize(reconstruction, dim=1, eps=_NORM_FLOOR)
    return (one - other).square().sum(dim=1) / 4


def composite_features(code: Tensor, x: Tensor, reconstruction: Tensor) -> Tensor:
    """Latent features, mean squared error and cosine dissimilarity, (n, d_z + 2).

    Errors that are only the rounding of a row become 0, so that no density is fitted to them.
    """
    x, reconstruction = precise(x), precise(reconstruction)
    error, angle = mean_squared_error(x, reconstruction), cosine_dissimilarity(x, reconstruction)
    exact = error <= _ROUNDING * x.square().mean(dim=1)
    errors = torch.stack([error, angle], dim=1).masked_fill(exact[:, None], 0)
    return torch.cat([precise(code), errors], dim=1)


def squared_covariance(code: Tensor) -> Tensor:
    """Mean of the squared covariances of different features of `code` (n, d), of shape ()."""
    d = code.shape[1]
    if d == 1:
        return code.new_zeros(())
    deviations = code - code.mean(dim=0)
    covariance = deviations.T @ deviations / len(code)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / (d * (d - 1))


def moments_of(rows: Rows) -> TiedMoments:
    """Count, mean and scatter of rows (n, d), chunk by chunk and in float64."""
    total: TiedMoments | None = None
    for chunk in chunks_of(rows):
        chunk = precise(chunk)
        part = TiedMoments.of(chunk, torch.ones_like(chunk[:, :1]))
        total = part if total is None else total.merge(part)
    assert total is not None
    return total


class LatentNorm(nn.Module):
    """Batch normalisation without trained scales: latent features of mean 0 and variance 1.

    Whether the moments are the batch's or the running ones is said by the caller and not by the
    mode of the module, since a frozen encoder is part of modules in training.

    Parameters
    ----------
    d : int
        Number of features.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("variance", torch.ones(d))

    def forward(self, z: Tensor) -> Tensor:
        """Normalise by the running moments."""
        return (z - self.mean) * (self.variance + _VARIANCE_FLOOR).rsqrt()

    def by_batch(self, z: Tensor) -> Tensor:
        """Normalise by the moments of `z` (n, d), and let the running ones follow.

        A single row has no variance: it is normalised by the running moments.
        """
        alone = len(z) == 1
        center = self.mean if alone else z.mean(dim=0)
        deviations = z - center
        n_free = max(1, len(z) - 1)
        with torch.no_grad():
            self.variance.lerp_(deviations.square().sum(dim=0) / n_free, _MOMENTUM)
            self.mean.lerp_(z.mean(dim=0), _MOMENTUM)
        if alone:
            return self(z)
        return deviations * (deviations.square().mean(dim=0) + _VARIANCE_FLOOR).rsqrt()


class TwoStageAutoencoder(nn.Module):
    """Autoencoder with a normalised latent space, whose decoder is trained further on its own.

    Parameters
    ----------
    networks : Networks
        Makes encoder and decoder.
    latent_dim : int
        Dimension of latent vectors.
    covariance_penalty : float, default=0.0
        Weight of the squared covariances of latent features, against the sum of squared errors
        of a row, in the first stage.
    """

    def __init__(
        self, networks: Networks, latent_dim: int, covariance_penalty: float = 0.0
    ) -> None:
        super().__init__()
        self.latent_dim, self.covariance_penalty = latent_dim, covariance_penalty
        self.encoder, self.decoder = networks.encoder(latent_dim), networks.decoder(latent_dim)
        last = [part for part in self.encoder.modules() if not any(part.children())][-1]
        if isinstance(last, nn.Linear) and last.bias is not None:
            # The norm takes the bias away again. Its gradient is rounding, which Adam would follow.
            last.bias.requires_grad_(False)
        self.norm = LatentNorm(latent_dim)

    def encode(self, x: Tensor) -> Tensor:
        """Latent vectors of rows, by the running moments."""
        return self.norm(self.encoder(x))

    def decode(self, code: Tensor) -> Tensor:
        """Rows of latent vectors."""
        return self.decoder(code)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latent vectors and reconstructions of rows, by the running moments."""
        code = self.encode(x)
        return code, self.decode(code)

    def by_batch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latent vectors and reconstructions of rows, by the moments of the batch."""
        code = self.norm.by_batch(self.encoder(x))
        return code, self.decode(code)

    # ---- first stage: encoder and decoder (eq. 11 and 12) ---------------------------------

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """Mean squared error of rows (n, d_x) and penalty on covariances of latent features.

        Both terms of eq. 11, |x - x'|^2 and lambda times the covariances, are divided by d_x.
        """
        code, reconstruction = self.by_batch(x)
        error = mean_squared_error(x, reconstruction).mean()
        covariance = squared_covariance(code)
        loss = error + self.covariance_penalty / x.shape[1] * covariance
        return {"loss": loss, "reconstruction": error, "covariance": covariance}

    def validation_loss(self, x: Tensor) -> Tensor:
        """Loss () of rows (n, d_x) by the running moments."""
        code, reconstruction = self(x)
        penalty = self.covariance_penalty / x.shape[1] * squared_covariance(code)
        return mean_squared_error(x, reconstruction).mean() + penalty

    # ---- second stage: the decoder alone --------------------------------------------------

    def with_codes(self, rows: Tensor) -> Tensor:
        """Latent vectors of rows and the rows, (n, d_z + d_x): a frozen encoder is asked once."""
        return torch.cat([torch.cat([self.encode(x), x], dim=1) for x in chunks_of(rows)])

    def decoder_loss(self, codes_and_rows: Tensor) -> Tensor:
        """Mean squared error () of rows from what :meth:`with_codes` made of them."""
        code, x = codes_and_rows.tensor_split([self.latent_dim], dim=1)
        return mean_squared_error(x, self.decode(code)).mean()


class PrincipalComponents(nn.Module):
    """Projection on the leading principal components of the training rows.

    Parameters
    ----------
    n_features, latent_dim : int
        Dimensions of rows, and number of components.
    """

    mean: Tensor
    components: Tensor

    def __init__(self, n_features: int, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.register_buffer("mean", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("components", torch.eye(n_features, dtype=torch.float64)[:latent_dim])

    def fit(self, rows: Rows) -> None:
        """Find the components of rows (n, d_x); those beyond the rows' rank are 0."""
        moments = moments_of(rows)
        # The CPU computes them, so that they are the same whatever device the rows are on.
        values, vectors = torch.linalg.eigh(moments.covariance.cpu())
        leading = vectors.flip(1)[:, : self.latent_dim].T
        largest = leading.gather(1, leading.abs().argmax(dim=1, keepdim=True))
        signs = torch.where(largest < 0, -1.0, 1.0)
        signs[values.flip(0)[: self.latent_dim] <= _ROUNDING * values[-1]] = 0
        self.mean.copy_(moments.means[0])
        self.components.copy_(leading * signs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Principal components and reconstructions of rows."""
        mean, components = precise(self.mean), precise(self.components)
        code = steady_product(precise(x) - mean, components.T)
        return code, code @ components + mean
