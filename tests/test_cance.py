"""CANCE: exact densities, what moves in which stage, ablations, odd data."""

import copy
import functools
import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy.linalg import LinAlgWarning
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from skgenad import CANCE, DAGMM
from skgenad.autoencoders import AutoencoderFeatures, PCAFeatures
from skgenad.autoencoders._nce import GaussianNoise
from skgenad.metrics import NormalOnlyCV, anomaly_roc_auc
from skgenad.networks import MLP
from skgenad.preprocessing import LatentFeatures

from ._settings import ALL_ROWS

pytestmark = pytest.mark.usefixtures("drawing")

QUICK_FEATURES = {"network": (32,), "latent_dim": 2, "encoder_steps": 50, "decoder_steps": 50}
QUICK = {
    **ALL_ROWS,
    "features": AutoencoderFeatures(**QUICK_FEATURES),
    "density_network": (32, 32),
    "max_steps": 100,
    "batch_size": 64,
    "random_state": 0,
    "device": "cpu",
}
# Where it does not matter what was learned.
BRIEF_FEATURES = AutoencoderFeatures((32,), latent_dim=2, encoder_steps=10, decoder_steps=10)
BRIEF = {"features": BRIEF_FEATURES, "max_steps": 10}
PCA_2 = {**QUICK, "features": PCAFeatures(2)}


def with_features(**parameters):
    """Return quick settings with an autoencoder some of whose settings are replaced."""
    return {**QUICK, "features": AutoencoderFeatures(**{**QUICK_FEATURES, **parameters})}


def without_density(settings):
    """Return settings without those of the density, for a detector that has none."""
    return {k: v for k, v in settings.items() if k not in ("density_network", "max_steps")}


@functools.cache
def quick(features, score_type):
    """Return a detector fitted to `curve`, for many to look at and none to change.

    Sound data make no warning: none is let pass here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings = QUICK if features == "autoencoder" else PCA_2
        settings = without_density(settings) if score_type in ("error", "cosine") else settings
        return CANCE(**settings, score_type=score_type).fit(curve())


def curve(n=400, seed=0):
    """Return rows near a curved surface in 6 columns."""
    rng = np.random.default_rng(seed)
    t = rng.normal(size=(n, 2))
    clean = np.column_stack(
        [t, np.sin(2 * t[:, 0]), t[:, 0] * t[:, 1], t.sum(axis=1), t[:, 1] ** 2]
    )
    return clean + 0.1 * rng.normal(size=clean.shape)


# ---- exactness ------------------------------------------------------------------------------


class Planted:
    """Two of four columns, and one and the same reconstruction of all rows.

    What is left of a row is free to have any mean squared error and cosine dissimilarity.
    """

    def transform(self, X):
        return X[:, :2]

    def inverse_transform(self, Z):
        return np.tile([0.0, 0.0, 10.0, 0.0], (len(Z), 1))


def rows_of(z):
    """Return the rows (n, 4) whose composite feature under `Planted` is `z` (n, 4)."""
    code, cosine = z[:, :2], 1 - 2 * z[:, 3]
    length = 10 * cosine + np.sqrt(4 * z[:, 2] - 100 * (1 - cosine**2))
    along = length * cosine
    across = np.sqrt(length**2 - along**2 - (code**2).sum(axis=1))
    return np.column_stack([code, along, across])


FACTOR = np.array([[0.5, 0, 0, 0], [0.3, 0.4, 0, 0], [0.1, -0.1, 0.3, 0], [3e-3, 3e-3, 2e-3, 6e-3]])
GAUSSIAN = multivariate_normal([0, 1, 25, 0.3], FACTOR @ FACTOR.T)


class TwoGaussians:
    """Two modes in the first latent feature, of different weights."""

    parts = tuple(
        multivariate_normal([mean, 1, 25, 0.3], FACTOR @ FACTOR.T) for mean in (-1.5, 1.5)
    )

    def rvs(self, n, random_state):
        both = [part.rvs(n, random_state=random_state + i) for i, part in enumerate(self.parts)]
        first = np.random.default_rng(random_state).random(n) < 0.3
        return np.where(first[:, None], *both)

    def logpdf(self, z):
        one, other = (part.logpdf(z) for part in self.parts)
        return np.logaddexp(np.log(0.3) + one, np.log(0.7) + other)


def fitted_to(law, **parameters):
    """Return fresh features, their log densities, and the scores of their rows."""
    settings = {
        **QUICK,
        "density_network": (64, 64),
        "max_steps": 300,
        "learning_rate": 5e-3,
        "batch_size": 256,
        "validation_fraction": 0.05,
        "features": Planted(),
        "score_type": "cnce",
        "standardize": False,
        **parameters,
    }
    detector = CANCE(**settings).fit(rows_of(law.rvs(20_000, random_state=0)))
    fresh = law.rvs(4000, random_state=10)
    return law.logpdf(fresh), detector.score_samples(rows_of(fresh)), detector


def test_planted_rows_have_the_features_that_were_asked():
    z = GAUSSIAN.rvs(100, random_state=0)
    detector = CANCE(**{**QUICK, "max_steps": 1, "features": Planted(), "standardize": False})
    detector.fit(rows_of(z))
    found = detector.module_.composite(torch.from_numpy(rows_of(z)).float())
    np.testing.assert_allclose(found, z, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("noise_ratio", "noise_scale", "noise_learning_rate"),
    [(8, 1.5, 1e-3), (2, 1.0, 0.0), (4, 1.2, 1e-2)],
)
def test_a_gaussian_feature_has_its_normalised_log_density_whatever_the_noise(
    noise_ratio, noise_scale, noise_learning_rate
):
    truth, scores, detector = fitted_to(
        GAUSSIAN,
        noise_ratio=noise_ratio,
        noise_scale=noise_scale,
        noise_learning_rate=noise_learning_rate,
    )
    log_normaliser = np.log(np.mean(np.exp(scores - truth)))
    assert abs(log_normaliser) < 0.05
    assert np.corrcoef(scores, truth)[0, 1] > 0.999
    assert detector.module_.density.noise_ratio == noise_ratio
    spread = detector.module_.density.noise.spread.detach()
    moved = (spread - noise_scale).abs().max().item()
    assert moved > 0.01 if noise_learning_rate else moved < 1.1e-3


def test_a_mixture_has_its_log_density_in_the_bulk():
    truth, scores, detector = fitted_to(TwoGaussians(), max_steps=400)
    bulk = truth > np.quantile(truth, 0.1)
    assert np.abs(scores - truth)[bulk].mean() < 0.2
    assert np.corrcoef(scores[bulk], truth[bulk])[0, 1] > 0.99
    assert abs(np.log(np.mean(np.exp(scores - truth)))) < 0.05
    # The noise alone, one Gaussian, does not know of the gap.
    gap = rows_of(np.array([[-1.5, 1, 25, 0.3], [0.0, 1, 25, 0.3], [1.5, 1, 25, 0.3]]))
    left, middle, right = detector.score_samples(gap)
    assert middle < min(left, right) - 1


def test_augmentation_raises_the_density_of_low_errors():
    gain = []
    for score_type in ("cnce", "cance"):
        settings = {**PCA_2, "max_steps": 200}
        detector = CANCE(**settings, score_type=score_type).fit(curve(1000))
        z = detector.module_.composite(torch.from_numpy(detector.units_.to_standard(curve(seed=1))))
        low = torch.cat([z[:, :2], 0.01 * z[:, 2:]], dim=1)
        density = detector.module_.density.log_density
        gain.append((density(low) - density(z)).median().item())
    assert gain[1] > gain[0] + 0.5


# ---- stages ---------------------------------------------------------------------------------


class States(Callback):
    """Keeps copies of the parameters and buffers at the start and end of stages and epochs."""

    def __init__(self):
        self.states = {}

    def on_train_begin(self, net, **kwargs):
        self.states[net.stage.name, "begin"] = self.copy(net)

    def on_epoch_end(self, net, **kwargs):
        self.states[net.stage.name, len(net.history)] = self.copy(net)

    def on_train_end(self, net, **kwargs):
        self.states[net.stage.name, "end"] = self.copy(net)

    def copy(self, net):
        return {name: value.clone() for name, value in net.module_.state_dict().items()}

    def moved(self, stage):
        begin, end = self.states[stage, "begin"], self.states[stage, "end"]
        return {name for name in begin if not torch.equal(begin[name], end[name])}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


class Batches(Callback):
    """Keeps the batches of the first stage."""

    def __init__(self):
        self.batches = []

    def on_batch_begin(self, net, batch, training, **kwargs):
        if net.stage.name == "encoder" and training:
            self.batches.append(batch[0])


@pytest.fixture(scope="module")
def watched():
    """Return a detector, its rows, and what was seen of its training."""
    X, states, batches = curve(50), States(), Batches()
    detector = CANCE(**QUICK, callbacks=[states, batches], validation_fraction=0.3).fit(X)
    return detector, X, states, batches.batches


def test_every_stage_trains_its_part_and_nothing_else(watched):
    _, _, states, _ = watched
    parts = {
        stage: {".".join(name.split(".")[:2]) for name in states.moved(stage)}
        for stage in ("encoder", "decoder", "density")
    }
    assert parts["encoder"] == {"features.encoder", "features.decoder", "features.norm"}
    assert parts["decoder"] == {"features.decoder"}
    assert parts["density"] == {"density.network", "density.noise"}
    assert {n for n in states.moved("density") if "noise" in n} == {"density.noise.psi"}


class Encodings(Callback):
    """Counts the encoder's passes during each stage."""

    def __init__(self):
        self.counts = {}

    def on_train_begin(self, net, **kwargs):
        self.counts[net.stage.name] = 0
        self.hook = net.module_.features.encoder.register_forward_hook(
            lambda *_: self.count(net.stage.name)
        )

    def count(self, stage):
        self.counts[stage] += 1

    def on_train_end(self, net, **kwargs):
        self.hook.remove()


def test_the_frozen_encoder_is_not_asked_in_every_step_of_the_decoder():
    encodings = Encodings()
    CANCE(**{**QUICK, **BRIEF, "callbacks": [encodings]}).fit(curve(50))
    # A pass for each of ten steps, and one for the rows held out.
    assert encodings.counts == {"encoder": 11, "decoder": 0, "density": 0}


@pytest.mark.parametrize("stage", ["encoder", "decoder"])
def test_epochs_of_the_autoencoder_are_judged_by_the_loss_of_rows_held_out(watched, stage):
    detector, X, states, batches = watched
    rows = torch.from_numpy(detector.units_.to_standard(X))
    seen = {tuple(row) for row in torch.cat(batches).tolist()}
    held_out = torch.stack([row for row in rows if tuple(row.tolist()) not in seen])
    assert len(held_out) == 15
    module = copy.deepcopy(detector.module_)
    module.load_state_dict(states.states[stage, "end"])
    with torch.no_grad():
        z = module.composite(held_out)
    expected = z[:, -2].mean()
    if stage == "encoder":
        covariance = (z[:, 0] * z[:, 1]).mean() - z[:, 0].mean() * z[:, 1].mean()
        assert covariance**2 > 1e-3 * expected
        expected += 0.1 * covariance**2
    table = detector.history_
    best = table[table["stage"] == stage]["validation_loss"].min()
    assert best == pytest.approx(expected.item(), rel=1e-5)


def test_k_moves_and_is_never_below_1():
    settings = {**PCA_2, "noise_learning_rate": 0.5, "noise_scale": 1.1}
    detector = CANCE(**settings).fit(curve())
    spread = detector.module_.density.noise.spread.detach()
    assert (spread >= 1).all() and ((spread - 1.1).abs() > 0.01).any()
    spreads = detector.history_.dropna(subset="spread")["spread"]
    assert spreads.nunique() > 1 and (spreads >= 1).all()


def test_k_moves_no_further_than_its_rates_add_up_to():
    # As 1000 steps at the default rate, that fall to 0: 0.5 in psi.
    settings = {**PCA_2, "validation_fraction": 0, "weight_decay": 0}
    detector = CANCE(**settings, noise_learning_rate=1e-2).fit(curve())
    noise = detector.module_.density.noise
    moved = (noise.psi - GaussianNoise(4, 1.5).psi).abs().detach()
    assert (moved < 0.55).all() and moved.max() > 0.1
    assert ((noise.spread - 1.5).abs() < 0.25).all()


def test_a_learning_rate_of_0_leaves_k_as_it_starts():
    detector = CANCE(**PCA_2, noise_learning_rate=0, noise_scale=2).fit(curve())
    torch.testing.assert_close(detector.module_.density.noise.spread, torch.full((4,), 2.0))


def test_weight_decay_pulls_network_and_noise_to_0():
    settings = {**PCA_2, "validation_fraction": 0, "max_steps": 20}
    settings |= {"noise_scale": 4.0, "noise_learning_rate": 1e-2}
    free, pulled = (
        CANCE(**settings, weight_decay=decay).fit(curve(100)).module_.density for decay in (0, 50)
    )
    # Half of psi goes in a step at first, and 0 is a K of 1 + log 2.
    assert (free.noise.spread > 3.5).all()
    torch.testing.assert_close(pulled.noise.spread, torch.full((4,), 1.69), rtol=0, atol=0.1)
    for one, other in zip(free.network.parameters(), pulled.network.parameters(), strict=True):
        assert other.norm() < 0.6 * one.norm()


def test_every_stage_keeps_the_epoch_of_its_lowest_validation_loss():
    states = States()
    settings = with_features(encoder_steps=400)
    settings |= {"learning_rate": 1e-2, "callbacks": [states]}
    detector = CANCE(**settings).fit(curve(60))
    table = detector.history_
    assert table["validation_loss"].notna().all()
    best = table.loc[table.groupby("stage")["validation_loss"].idxmin()].set_index("stage")
    last = table.groupby("stage")["epoch"].max()
    # Sixty rows are soon learned by heart: the epoch kept is not the last.
    assert (best["epoch"] <= last).all() and (best["epoch"] < last).any()
    for stage, epoch in best["epoch"].items():
        assert same(states.states[stage, "end"], states.states[stage, epoch])


def test_the_covariance_penalty_makes_latent_features_uncorrelated():
    X = curve()
    off = []
    for penalty in (0.0, 10.0):
        detector = CANCE(**with_features(covariance_penalty=penalty, latent_dim=3)).fit(X)
        z = detector.module_.composite(torch.from_numpy(detector.units_.to_standard(X)))
        correlation = np.corrcoef(z[:, :3].detach().T)
        off.append(np.abs(correlation - np.eye(3)).max())
        np.testing.assert_allclose(z[:, :3].detach().std(dim=0), np.ones(3), rtol=0.25)
    assert off[1] < 0.1 < off[0]


def test_rows_for_validation_take_no_part_in_gradients(watched):
    detector, X, _, batches = watched
    seen = torch.unique(torch.cat(batches), dim=0)
    assert len(seen) == 35
    every = {tuple(row) for row in detector.units_.to_standard(X).tolist()}
    assert {tuple(row) for row in seen.tolist()} < every


def test_without_validation_rows_the_last_epoch_counts():
    states = States()
    settings = {**QUICK, "validation_fraction": 0, "callbacks": [states], **BRIEF}
    detector = CANCE(**settings).fit(curve())
    assert "validation_loss" not in detector.history_
    for stage in ("encoder", "decoder", "density"):
        end, last = states.states[stage, "end"], states.states[stage, 1]
        torch.testing.assert_close(end, last, rtol=0, atol=0)


# ---- what scores ----------------------------------------------------------------------------


@pytest.mark.parametrize("features", ["autoencoder", "pca"])
@pytest.mark.parametrize("score_type", ["cance", "cnce", "latent", "error", "cosine"])
def test_anomalies_are_found_by_every_score_and_sound_data_make_no_warning(features, score_type):
    far = curve(100, seed=1) + [6, -6, 6, -6, 6, -6]
    detector = quick(features=features, score_type=score_type)
    scores = detector.score_samples(np.vstack([curve(100, seed=2), far]))
    # Rows near the mean of all have no direction to speak of: an angle alone finds far ones less.
    least = 0.6 if score_type == "cosine" else 0.97
    assert roc_auc_score(np.repeat([1, 0], 100), scores) > least


def test_error_is_the_mean_squared_error_and_has_no_density():
    X, detector = curve(), quick(features="autoencoder", score_type="error")
    x = torch.from_numpy(detector.units_.to_standard(X))
    with torch.no_grad():
        error = (x - detector.module_.features(x)[1]).square().mean(dim=1)
    np.testing.assert_allclose(detector.score_samples(X), -error, rtol=1e-4)
    assert set(detector.history_["stage"]) == {"encoder", "decoder"}
    assert detector.module_.density is None


@pytest.mark.parametrize("features", ["autoencoder", "pca"])
def test_cosine_is_the_angle_between_a_row_and_its_reconstruction_alone(features):
    X, detector = curve(), quick(features=features, score_type="cosine")
    x = torch.from_numpy(detector.units_.to_standard(X)).double()
    back = detector.units_.to_standard(detector.reconstruct(X))
    cosine = (x.numpy() * back).sum(axis=1)
    cosine /= np.linalg.norm(x, axis=1) * np.linalg.norm(back, axis=1)
    np.testing.assert_allclose(detector.score_samples(X), (cosine - 1) / 2, rtol=1e-3, atol=1e-6)
    assert detector.module_.density is None
    # The same features as those of the error, of which it is no function.
    error = quick(features=features, score_type="error").score_samples(X)
    assert 0.2 < np.corrcoef(error, detector.score_samples(X))[0, 1] < 0.999


def test_latent_looks_at_latent_features_alone():
    detector = CANCE(**PCA_2, score_type="latent", standardize=False).fit(curve())
    components = detector.module_.features.components.numpy()
    X = curve(50, seed=1)
    # Moved across the principal components: the error grows, the latent features stay.
    across = np.linalg.svd(components)[2][-1]
    scores = detector.score_samples(X)
    np.testing.assert_allclose(detector.score_samples(X + 3 * across), scores, rtol=1e-3, atol=1e-3)


def test_error_of_principal_components_learns_by_its_first_fit_alone():
    X = curve()
    detector = CANCE(**without_density(PCA_2), score_type="error").fit(X)
    before = detector.score_samples(X)
    detector.partial_fit(X[:50])
    np.testing.assert_array_equal(detector.score_samples(X), before)
    rows = np.concatenate([part.rows for part in detector._stream.learnt()])
    assert len(rows) == len(X) + 50
    assert detector.offset_ == np.percentile(detector.score_samples(rows), 10)


# ---- features of others ---------------------------------------------------------------------


def test_scikit_learns_pca_gives_the_scores_of_ours():
    X = curve()
    ours = CANCE(**PCA_2, standardize=False).fit(X)
    theirs = CANCE(**{**QUICK, "features": PCA(2)}, standardize=False).fit(X)
    # Signs of components may differ, and with them the network's draw.
    assert np.corrcoef(ours.score_samples(X), theirs.score_samples(X))[0, 1] > 0.95
    z = [d.module_.composite(torch.from_numpy(X).float()).numpy() for d in (ours, theirs)]
    np.testing.assert_allclose(np.abs(z[0]), np.abs(z[1]), rtol=1e-4, atol=1e-5)


def test_an_estimator_is_cloned_and_a_frozen_one_taken_as_it_is():
    X = curve()
    unfitted = PCA(2)
    settings = {**QUICK, "max_steps": 10}
    CANCE(**{**settings, "features": unfitted}).fit(X)
    assert not hasattr(unfitted, "components_")
    elsewhere = PCA(2).fit(curve(seed=5) * [1, 1, 1, 1, 1, 9])
    detector = CANCE(**{**settings, "features": FrozenEstimator(elsewhere)}).fit(X)
    x = torch.from_numpy(detector.units_.to_standard(X))
    code, _ = detector.module_.features(x)
    np.testing.assert_allclose(code, elsewhere.transform(X), rtol=1e-3, atol=1e-4)


def test_dagmm_cance_is_a_density_of_a_trained_dagmms_features():
    X, far = curve(), curve(100, seed=1) + [6, -6, 6, -6, 6, -6]
    dagmm = DAGMM(errors="mean", latent_dim=2, max_steps=50, random_state=0, device="cpu").fit(X)
    features = FrozenEstimator(LatentFeatures(dagmm).fit(X))
    detector = CANCE(**{**QUICK, "features": features}).fit(X)
    x = torch.from_numpy(detector.units_.to_standard(X))
    with torch.no_grad():
        expected = features.estimator.detector_.module_(x)[0]
        # Units of the same rows: DAGMM's own features, errors and all.
        torch.testing.assert_close(
            detector.module_.composite(x).float(), expected, rtol=1e-3, atol=1e-4
        )
    scores = detector.score_samples(np.vstack([curve(100, seed=2), far]))
    assert roc_auc_score(np.repeat([1, 0], 100), scores) > 0.97


def test_features_of_others_pickle_go_on_and_are_refused_by_files(tmp_path):
    X = curve()
    detector = CANCE(**{**QUICK, "max_steps": 10, "features": PCA(2)}).fit(X)
    twin = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(twin.score_samples(X), detector.score_samples(X))
    before = twin.score_samples(X)
    twin.partial_fit(curve(seed=1))
    assert not np.array_equal(twin.score_samples(X), before)
    with pytest.raises(TypeError, match="features=PCA.* cannot be saved: .* with an object"):
        detector.save(tmp_path / "detector")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"features": "umap"}, "features.*Got 'umap' instead"),
        ({"features": 3}, "'features' parameter.*implementing 'transform' and"),
        ({"features": PCAFeatures(7)}, r"PCAFeatures\(latent_dim=7\) needs as many columns"),
        ({"features": PCAFeatures(0)}, "latent_dim.*Got 0 instead"),
        ({"features": AutoencoderFeatures((8, 0))}, r"hidden_sizes=\(8, 0\) must hold integers"),
        ({"score_type": "density"}, "score_type.*Got 'density' instead"),
        (
            {"density_network": (0,)},
            r"density_network=\(0,\): hidden_sizes=\(0,\) must hold integers",
        ),
        ({"density_network": "conv"}, "density_network.*Got 'conv' instead"),
        ({"noise_scale": 0.5}, "noise_scale.*Got 0.5 instead"),
        ({"noise_ratio": 0}, "noise_ratio.*Got 0 instead"),
        ({"noise_learning_rate": -1}, "noise_learning_rate.*Got -1 instead"),
        ({"validation_fraction": 1.0}, "validation_fraction.*Got 1.0 instead"),
        ({"features": AutoencoderFeatures(covariance_penalty=-1)}, "penalty.*Got -1 instead"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused_by_name(bad, message):
    with pytest.raises(ValueError, match=message):
        CANCE(**{**QUICK, **bad}).fit(curve(20))


@pytest.mark.parametrize(
    ("d", "features", "expected"),
    [(1, "autoencoder", 1), (7, "autoencoder", 7), (50, "autoencoder", 32), (7, "pca", 4)],
)
def test_the_number_of_latent_features_follows_from_the_columns(d, features, expected):
    module = CANCE(features=features)._make_module(d)
    assert module.features.latent_dim == expected
    assert module.density.network.layers[0].in_features == expected + 2


def test_the_parts_are_made_as_asked():
    part = AutoencoderFeatures(MLP((9,), activation="tanh"), latent_dim=3)
    settings = {"features": part, "density_network": MLP((7, 5), activation="relu")}
    module = CANCE(**settings, noise_ratio=3, noise_scale=2.0)._make_module(4)

    def widths(net):
        return [layer.weight.shape[1] for layer in net.layers]

    features, density = module.features, module.density
    nets = {features.encoder: [4, 9], features.decoder: [3, 9], density.network: [5, 7, 5]}
    for net, expected in nets.items():
        assert widths(net) == expected
    assert features.encoder.activation == features.decoder.activation == "tanh"
    assert density.network.activation == "relu"
    assert density.noise_ratio == 3 and density.noise.start == 2.0


# ---- features as objects --------------------------------------------------------------------


def test_names_are_short_for_objects():
    X, brief = curve(60), {"max_steps": 5, "random_state": 0, "device": "cpu"}
    for name, part in (("autoencoder", AutoencoderFeatures()), ("pca", PCAFeatures())):
        short, long = (CANCE(features=features, **brief).fit(X) for features in (name, part))
        np.testing.assert_array_equal(short.score_samples(X), long.score_samples(X))


def test_nested_names_reach_features_that_were_asked_for_by_name():
    detector = CANCE()
    assert detector.get_params()["features__network__hidden_sizes"] is None
    detector.set_params(features__latent_dim=3, features__network__hidden_sizes=(8,))
    assert detector.features.latent_dim == 3 and detector.features.network.hidden_sizes == (8,)
    detector.set_params(features="pca", features__latent_dim=2, density_network__activation="tanh")
    assert isinstance(detector.features, PCAFeatures) and detector.features.latent_dim == 2
    module = detector._make_module(5)
    assert module.features.components.shape == (2, 5)
    assert module.density.network.activation == "tanh"
    assert [layer.out_features for layer in module.density.network.layers] == [128, 128, 1]


def test_a_grid_search_finds_parameters_of_features():
    X = curve(90)
    y = np.repeat([0, 1], [60, 30])
    X[60:] += 5
    grid = {"cance__features__latent_dim": [1, 3], "cance__density_network": [(8,), (16,)]}
    brief = CANCE(features="pca", max_steps=20, random_state=0, device="cpu")
    search = GridSearchCV(
        make_pipeline(brief), grid, scoring=anomaly_roc_auc, cv=NormalOnlyCV(2), error_score="raise"
    ).fit(X, y)
    assert search.best_estimator_[-1].features.latent_dim in (1, 3)
    assert brief.features == "pca"


def test_copies_keep_features_and_files_do_too(tmp_path):
    X, detector = curve(), quick("autoencoder", "cance")
    twin = clone(detector)
    assert twin.features is not detector.features
    assert twin.get_params()["features__latent_dim"] == 2
    scores = detector.score_samples(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(detector)).score_samples(X), scores)
    detector.save(tmp_path / "detector")
    loaded = CANCE.load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.score_samples(X), scores)
    assert loaded.features.network == (32,) and loaded.features.encoder_steps == 50


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"density_network": (8,)}, "density_network=.* would be ignored: score_type='error' has"),
        ({"noise_ratio": 4}, "noise_ratio=4 would be ignored"),
        ({"noise_scale": 2.0}, "noise_scale=2.0 would be ignored"),
        ({"noise_learning_rate": 0.1}, "noise_learning_rate=0.1 would be ignored"),
        ({"weight_decay": 0.1}, "weight_decay=0.1 would be ignored"),
        ({"max_steps": 5}, "max_steps=5 would be ignored"),
        ({"features": "pca", "learning_rate": 0.1}, "learning_rate=0.1 would be .* trains no net"),
        ({"features": PCA(2), "validation_fraction": 0.5}, "validation_fraction=0.5 would be ign"),
    ],
    ids=str,
)
def test_what_an_error_does_not_need_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CANCE(score_type="error", **settings).fit(curve(20))


def test_what_an_angle_does_not_need_is_refused():
    with pytest.raises(
        ValueError, match=r"noise_ratio=4 would be ignored: score_type='cosine' has"
    ):
        CANCE(score_type="cosine", noise_ratio=4).fit(curve(20))


# ---- the paper's settings -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("experiment", "latent_dim", "penalty", "n_columns"),
    [
        ("mnist", 6, 0.3, 784),
        ("fashion_mnist", 6, 0.3, 784),
        ("mnist_c", 10, 0.3, 784),
        ("cifar10", 64, 0.004, 3072),
    ],
)
def test_from_paper_has_latent_features_and_penalties_of_appendix_g(
    experiment, latent_dim, penalty, n_columns
):
    detector = CANCE.from_paper(experiment)
    features = detector._make_module(n_columns).features
    assert (features.latent_dim, features.covariance_penalty) == (latent_dim, penalty)
    assert (detector.noise_ratio, detector.validation_fraction) == (8, 0.2)
    quick = CANCE.from_paper(experiment, features=AutoencoderFeatures(encoder_steps=3), max_steps=2)
    assert (quick.features.encoder_steps, quick.features.latent_dim) == (3, latent_dim)
    assert CANCE.from_paper(experiment).features.encoder_steps == 20_000


@pytest.mark.parametrize(("experiment", "n"), [("mnist_resnet18", 6), ("cifar10_resnet18", 64)])
def test_from_paper_has_principal_components_of_embeddings(experiment, n):
    X = np.random.default_rng(0).normal(size=(100, 70)).astype(np.float32)
    detector = CANCE.from_paper(experiment, max_steps=2, random_state=0).fit(X)
    assert detector.module_.features.latent_dim == n
    np.testing.assert_array_equal(detector.units_.to_standard(X), X)


def test_from_paper_trains_and_refuses_what_the_paper_has_not():
    quick = AutoencoderFeatures("mlp", encoder_steps=2, decoder_steps=2)
    X = np.random.default_rng(0).random((40, 1, 28, 28))
    detector = CANCE.from_paper(features=quick, max_steps=2, random_state=0).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    assert CANCE.from_paper().get_params() == CANCE.from_paper("mnist").get_params()
    with pytest.raises(ValueError, match=r"experiment='svhn' is none of those here: mnist, fash"):
        CANCE.from_paper("svhn")


def test_one_feature_has_no_covariance_to_penalise():
    features = AutoencoderFeatures(latent_dim=1, covariance_penalty=0.3)
    with pytest.raises(ValueError, match="covariance_penalty=0.3 would be ignored: latent_dim=1"):
        CANCE(features=features).fit(curve(20))


# ---- odd data -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(193, 274), (50, 500)], ids=str)
@pytest.mark.parametrize("features", ["autoencoder", "pca"])
def test_small_and_wide_tables_train(shape, features):
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(shape[0] + 100, 5))
    X = latent @ rng.normal(size=(5, shape[1])) + 0.3 * rng.normal(size=(len(latent), shape[1]))
    part = {"pca": PCAFeatures(), "autoencoder": with_features(latent_dim=None)["features"]}
    detector = CANCE(**{**QUICK, "features": part[features]}).fit(X[: shape[0]])
    assert np.isfinite(detector.history_.drop(columns="stage").fillna(0)).all(axis=None)
    scores = detector.score_samples(np.vstack([X[shape[0] :], X[shape[0] :][:, ::-1]]))
    assert np.isfinite(scores).all()
    assert roc_auc_score(np.repeat([1, 0], 100), scores) > 0.9


@pytest.mark.parametrize(
    ("X", "settings", "cause"),
    [
        (curve(6), {"features": PCAFeatures(4)}, "there were 6 rows for 6 features"),
        (np.ones((50, 3)), {}, "the mean squared error.*did not vary"),
        (curve()[:, [0, 0, 0, 1]], {"features": PCAFeatures(3)}, "latent feature 2"),
        (curve(), {"features": PCAFeatures(6)}, "the mean squared error, the cosine"),
    ],
    ids=["few rows", "constant", "rank", "no error"],
)
def test_a_covariance_without_an_inverse_is_regularised_with_a_warning(X, settings, cause):
    detector = CANCE(**{**QUICK, **BRIEF, **settings})
    with pytest.warns(LinAlgWarning, match=f"singular or ill-conditioned: .*{cause}"):
        detector.fit(X)
    far = np.vstack([X, X + 1e6, X * 1e12, 0 * X])
    assert np.isfinite(detector.score_samples(far)).all()


@pytest.mark.parametrize("score_type", ["cance", "cnce", "error"])
def test_rows_off_the_plane_that_training_rows_lie_in_are_anomalies(score_type):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 8))
    settings = {**QUICK, "features": PCAFeatures(3), "score_type": score_type}
    settings = without_density(settings) if score_type == "error" else settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)  # the errors are 0
        detector = CANCE(**settings).fit(X[:200])
    off = X[200:] + 0.1 * rng.normal(size=(100, 8))
    scores = detector.score_samples(np.vstack([X[200:], off]))
    assert roc_auc_score(np.repeat([1, 0], 100), scores) > 0.99


@pytest.mark.parametrize(("n", "validation_fraction", "seen"), [(5, 0.9, 2), (2, 0.5, 2)])
def test_two_rows_at_least_are_trained_on(n, validation_fraction, seen):
    batches = Batches()
    settings = {"validation_fraction": validation_fraction, "callbacks": [batches], **BRIEF}
    X = np.random.default_rng(0).normal(size=(n, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)
        CANCE(**{**QUICK, **settings}).fit(X)
    assert len(torch.unique(torch.cat(batches.batches), dim=0)) == seen


def test_more_validation_rows_than_tell_epochs_apart_are_trained_on(monkeypatch):
    monkeypatch.setattr("skgenad._core.running.MOST_VALIDATION_ROWS", 10)
    batches = Batches()
    CANCE(**{**QUICK, "callbacks": [batches], **BRIEF}).fit(curve(100))
    assert len(torch.unique(torch.cat(batches.batches), dim=0)) == 90


def test_far_rows_keep_their_order():
    detector = quick(features="autoencoder", score_type="cance")
    direction = np.array([1.0, -2, 3, -4, 5, -6])
    scores = detector.score_samples(np.outer(10.0 ** np.arange(1, 9), direction))
    assert np.isfinite(scores).all() and (np.diff(scores) < 0).all()


def test_continuing_goes_on_with_the_users_object_and_refuses_another():
    X = curve(60)
    fitted = CANCE(**{**QUICK, "features": PCA(2)}).fit(X)
    scores = fitted.score_samples(X)
    twin = copy.deepcopy(fitted)
    fitted.partial_fit(X)
    twin.set_params(contamination=0.2).partial_fit(X)
    np.testing.assert_array_equal(twin.score_samples(X), fitted.score_samples(X))
    assert not np.array_equal(fitted.score_samples(X), scores)
    with pytest.raises(ValueError, match="another object than the one that the first fit"):
        fitted.set_params(features=PCA(1)).partial_fit(X)
