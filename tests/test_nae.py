"""NAE: what the linear case, the plane and the paper's equations say it must do."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal, spearmanr

from skgenad import NAE, Autoencoder
from skgenad._tensors.reconstruction import ReconstructionEnergy
from skgenad.energies import Chain, Replay
from skgenad.energies._langevin import Langevin
from skgenad.energies.nae import NAEModel, NAESettings
from skgenad.networks import Conv28, Conv32, Conv64

from ._settings import ALL_ROWS, mlp_autoencoder, normal_rows, tiny

pytestmark = pytest.mark.usefixtures("drawing")


@pytest.fixture(scope="module")
def X():
    return normal_rows(200)


STILL = Langevin(0, 0.1, 0.1)


def module(sampling="omi", *, replay=(1000, 0.95), space="sphere", **settings):
    torch.manual_seed(0)
    net = mlp_autoencoder(4, 3, (8,), "tanh", space)
    usual = {
        "visible": STILL,
        "latent": STILL,
        "bounds": "none",
        "energy_penalty": 1.0,
        "temperature": 0.5,
    }
    made = NAEModel(
        ReconstructionEnergy(net),
        4,
        NAESettings(**{**usual, **settings}),
        latent_dim=3,
        sampling=sampling,
        replay=replay,
    )
    made.prepare(torch.tensor([[-2.0, -1.0, 0.0, 5.0], [2.0, 3.0, 1.0, 7.0]]), None)
    return made


# ---- the linear case is a Gaussian (appendix A.2) ---------------------------------------------


@pytest.mark.parametrize("d", [2, *(pytest.param(d, marks=pytest.mark.slow) for d in (3, 5))])
def test_a_linear_overcomplete_nae_is_the_gaussian_of_maximum_likelihood(d):
    """Sigma^-1 = 2 (I - BA)^T (I - BA) / (T D) for encoder A and decoder B.

    Tolerance: in the space where the data are white, Sigma's eigenvalues are within 15 % of 1.
    (Sampling error of a covariance of 2000 rows: 3 %; the rest is the chains' finite length.)
    """
    rng = np.random.RandomState(0)
    axes, _ = np.linalg.qr(rng.randn(d, d))
    X = rng.randn(2000, d) * np.linspace(0.6, 1.8, d) @ axes.T + rng.randn(d)
    detector = NAE(
        network=(),
        latent_dim=d + 1,
        latent_space="euclidean",
        latent_chain=Chain(step_size=0.045, noise=0.3),
        visible_chain=Chain(30, noise=0.5, metropolis=True, bounds=(-8, 8)),
        temperature=0.5,
        energy_penalty=0.01,
        pretrain_steps=0,
        max_steps=800,
        learning_rate=5e-3,
        random_state=0,
    ).fit(X)
    encoder, decoder = (
        part.layers[0].weight.detach().double().numpy()
        for part in (detector.module_.base.net.encoder, detector.module_.base.net.decoder)
    )
    off = np.eye(d) - decoder @ encoder
    learned = np.linalg.inv(2 * off.T @ off / (0.5 * d))
    Z = detector.units_.to_standard(X).astype(float)
    empirical = np.cov(Z.T, bias=True)
    eigenvalues = np.linalg.eigvals(np.linalg.solve(empirical, learned)).real
    np.testing.assert_allclose(eigenvalues, 1, atol=0.15)
    distances = cdist(Z, Z.mean(axis=0)[None], "mahalanobis", VI=np.linalg.inv(empirical))[:, 0]
    assert spearmanr(detector.score_samples(X), -distances).statistic > 0.99


def test_an_autoencoder_trained_alone_is_the_identity_in_the_linear_overcomplete_case():
    """What the normalisation is for: without it every row is reconstructed."""
    X = np.random.RandomState(0).randn(500, 3)
    linear = {"network": (), "latent_dim": 4, "latent_space": "euclidean"}
    detector = Autoencoder(**linear, learning_rate=1e-2, random_state=0).fit(X)
    assert detector.anomaly_score(10 * X).max() < 1e-3


# ---- outlier reconstruction and its cure (section 3.2, appendix C.3) ---------------------------


@pytest.fixture(scope="module")
def clusters():
    """Two uniform clusters on a line, as in figure 11, and points of the gap between them."""
    rng = np.random.RandomState(0)
    rows = rng.uniform([1.0, -0.3], [3.0, 0.3], size=(1000, 2)) * rng.choice([-1, 1], (1000, 1))
    return rows, np.column_stack([np.linspace(-0.4, 0.4, 50), np.zeros(50)])


ON_A_LINE = {
    **ALL_ROWS,
    "network": (64, 64),
    "latent_dim": 1,
    "latent_space": "euclidean",
    "standardize": False,
    "random_state": 1,
}


def nae_on_a_line(**parameters):
    settings = {
        "latent_chain": Chain(10, noise=0.15, step_size=0.01),
        "visible_chain": Chain(15, noise=0.3, metropolis=True),
        "temperature": 0.1,
        "latent_penalty": 0.01,
        "pretrain_steps": 300,
        "max_steps": 200,
    }
    return NAE(**{**ON_A_LINE, **settings, **parameters})


def test_rows_of_a_gap_that_an_autoencoder_reconstructs_are_not_reconstructed_by_nae(clusters):
    """Shares of rows that are reconstructed worse than the middle or the best row of the gap."""
    X, gap = clusters
    plain, nae = [], []
    for seed in range(2):
        detector = Autoencoder(**{**ON_A_LINE, "random_state": seed}, max_steps=300).fit(X)
        middle = np.median(detector.score_samples(gap))
        plain.append((detector.score_samples(X) < middle).mean())
        detector = nae_on_a_line(random_state=seed).fit(X)
        nae.append((detector.score_samples(X) < detector.score_samples(gap).max()).mean())
    # The autoencoder takes half of the gap for more normal than many rows, NAE every point of it
    # for less normal than nearly every row.
    assert np.mean(plain) > 0.15
    assert max(nae) < 0.02


def test_contrastive_divergence_leaves_a_spurious_mode_where_its_chains_do_not_come(clusters):
    """Section 4.1: chains that start at the rows and stay near them never see the gap."""
    X, gap = clusters
    xs, ys = np.linspace(-4, 4, 161), np.linspace(-2, 2, 81)
    share, worst = {}, {}
    for sampling in ("cd", "omi"):
        chain = Chain(2, noise=0.05, metropolis=True)
        detector = nae_on_a_line(sampling=sampling, visible_chain=chain).fit(X)
        density = np.exp(detector.log_density_grid(xs, ys))
        share[sampling] = density[:, np.abs(xs) < 0.5].sum() * 0.05**2
        worst[sampling] = (detector.energy(X) > detector.energy(gap).min()).mean()
    # An eighth of the grid's width holds no row, but for CD more than a twentieth of the density.
    assert share["cd"] > 0.05 and share["omi"] < 0.2 * share["cd"]
    assert worst["cd"] > 0.3 and worst["omi"] < 0.05


# ---- negatives (algorithm 1) -------------------------------------------------------------------


def test_omi_starts_on_the_decoders_manifold():
    made = module("omi")
    negatives = made.negatives(torch.randn(20, 4))
    torch.testing.assert_close(negatives, made.base.net.decode(made.replayed.rows))
    norms = made.replayed.rows.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(20))


def test_cd_starts_at_the_rows():
    made, x = module("cd"), torch.randn(20, 4)
    assert torch.equal(made.negatives(x), x)
    assert len(made.replayed) == 0


def test_pcd_starts_within_the_range_of_the_rows_and_goes_on_from_there():
    made = module("pcd", replay=(20, 1.0))
    first = made.negatives(torch.randn(20, 4))
    assert ((first >= made.low) & (first <= made.high)).all()
    assert first.std(dim=0).min() > 0.1
    made.settings = replace(made.settings, visible=Langevin(1, 0.0, 1e-3))
    second = made.negatives(torch.randn(20, 4))
    assert 0 < float((second - first).abs().max()) < 0.01  # every chain goes on as itself


def test_pcd_restarts_the_stated_share_of_chains():
    made = module("pcd", replay=(2000, 0.75))
    old = made.negatives(torch.zeros(2000, 4))
    new = made.negatives(torch.zeros(2000, 4))
    assert (new == old).all(dim=1).float().mean() == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize("space", ["sphere", "euclidean"])
def test_fresh_latent_chains_start_in_the_prior(space):
    z = module(space=space).prior(20_000)
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(3), atol=0.03, rtol=0)
    second = torch.eye(3) / (3 if space == "sphere" else 1)
    torch.testing.assert_close(z.T @ z / len(z), second, atol=0.05, rtol=0)


def test_the_latent_chain_samples_the_on_manifold_density():
    """Eq. 14 with E(f_d(z)) = |z - m|^2 / 2, by a stand-in for the networks: N(m, T I)."""
    made = module(space="euclidean")
    mean = torch.tensor([1.0, 0.0, -1.0])
    decode = torch.eye(4)[:, :3]
    made.base.net.decode_and_pullback = lambda z: (z @ decode.T, lambda v: v @ decode)
    made.base.energy_and_grad = lambda x: (
        0.5 * (x[:, :3] - mean).square().sum(dim=1),
        torch.cat([x[:, :3] - mean, torch.zeros(len(x), 1)], dim=1),
    )
    z = made.on_manifold(torch.zeros(20_000, 3), Langevin(400, 0.01, math.sqrt(0.02)))
    torch.testing.assert_close(z.mean(dim=0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(z.var(dim=0), torch.full((3,), 0.5), atol=0.03, rtol=0)


# ---- objective (eq. 12) -------------------------------------------------------------------------


def test_gradients_are_those_of_the_likelihood(monkeypatch):
    """dL/dtheta = grad E(x) - grad E(x-) + alpha grad E(x-)^2; for log T: -(E(x) - E(x-)) / T."""
    x, negatives = torch.randn(30, 4), torch.randn(30, 4) + 1
    made = module(energy_penalty=0.3, train_temperature=True)
    monkeypatch.setattr(made, "negatives", lambda _: negatives)
    made.loss(x)["loss"].backward()
    by_hand = module()
    on_data, on_negatives = by_hand.base.energy(x).mean(), by_hand.base.energy(negatives)
    (on_data - on_negatives.mean() + 0.3 * on_negatives.square().mean()).backward()
    for (name, p), q in zip(made.named_parameters(), by_hand.parameters(), strict=True):
        if name != "log_temperature":
            torch.testing.assert_close(p.grad, q.grad)
    gap = float((on_data - on_negatives.mean()).detach())
    assert float(made.log_temperature.grad) == pytest.approx(-gap / 0.5, rel=1e-5)


def test_the_latent_penalty_shortens_latent_vectors(X):
    settings = {"latent_space": "euclidean", "pretrain_steps": 200, "max_steps": 20}
    free, drawn = (tiny("NAE", **settings, latent_penalty=weight).fit(X) for weight in (0.0, 0.1))
    rows = torch.from_numpy(free.units_.to_standard(X))
    lengths = [d.module_.base.net.encode(rows).norm(dim=1).mean() for d in (free, drawn)]
    assert lengths[1] < 0.7 * lengths[0]


def test_a_trained_temperature_moves_and_a_fixed_one_does_not(X):
    fixed = tiny("NAE", temperature=0.7).fit(X)
    assert fixed.temperature_ == pytest.approx(0.7) and "temperature" not in fixed.history_
    trained = tiny("NAE", temperature=0.7, temperature_learning_rate=1e-3).fit(X)
    assert trained.temperature_ != pytest.approx(0.7, rel=1e-3)
    assert trained.history_["temperature"].notna().any()
    slow = tiny("NAE", temperature=0.7, temperature_learning_rate=1e-9)
    assert slow.fit(X).temperature_ == pytest.approx(0.7)


@pytest.mark.parametrize("d", [2, 20])
def test_a_temperature_trained_at_the_papers_rate_stays_in_reason(d):
    X = np.random.RandomState(0).randn(300, d)
    lengths = {"max_steps": 150, "pretrain_steps": 100}
    detector = NAE(temperature_learning_rate=1e-3, **lengths, random_state=0)
    assert 0.5 < detector.fit(X).temperature_ < 2
    assert np.isfinite(detector.score_samples(1e6 * X)).all()


def test_a_density_that_was_fitted_is_that_of_the_rows():
    """A correlated Gaussian; L1 error on a grid that holds it, network and temperature trained."""
    covariance = np.array([[1.0, 0.6], [0.6, 1.0]])
    X = np.random.RandomState(0).randn(2000, 2) @ np.linalg.cholesky(covariance).T
    detector = NAE(
        network=(64, 64),
        latent_dim=3,
        latent_space="euclidean",
        latent_penalty=0.01,
        latent_chain=Chain(noise=0.1, step_size=0.005),
        visible_chain=Chain(15, noise=0.5, metropolis=True),
        temperature=0.2,
        temperature_learning_rate=5e-3,
        energy_penalty=0.1,
        pretrain_steps=200,
        max_steps=400,
        random_state=0,
    ).fit(X)
    axis = np.linspace(-4, 4, 81)
    learned = np.exp(detector.log_density_grid(axis, axis)).ravel()
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    truth = multivariate_normal(cov=covariance).pdf(grid)
    assert np.abs(learned - truth).sum() * 0.1**2 < 0.3


# ---- options -----------------------------------------------------------------------------------

OTHER = {
    "network": "fcres",
    "network__hidden_sizes": (16,),
    "network__activation": "tanh",
    "latent_dim": 2,
    "latent_space": "euclidean",
    "distance": "l1",
    "sampling": "cd",
    "latent_chain__steps": 4,
    "latent_chain__step_size": 0.5,
    "latent_chain__noise": 0.2,
    "latent_chain__normalize": True,
    "latent_chain__clip": 1e-3,
    "latent_chain__anneal": True,
    "visible_chain__steps": 4,
    "visible_chain__step_size": 0.01,
    "visible_chain__noise": 0.1,
    "visible_chain__normalize": True,
    "visible_chain__clip": 1e-3,
    "visible_chain__anneal": True,
    "visible_chain__bounds": (-0.5, 0.5),
    "visible_chain__metropolis": True,
    "replay__size": 0,
    "replay__ratio": 0.1,
    "temperature": 0.2,
    "temperature_learning_rate": 1e-3,
    "energy_penalty": 0.0,
    "encoder_penalty": 0.1,
    "pretrain_steps": 20,
    "max_steps": 20,
    "pretrain_learning_rate": 1e-2,
    "learning_rate": 1e-2,
    "pretrain_clip": 1e-3,
    "schedule": "constant",
    "batch_size": 8,
    "standardize": False,
    "random_state": 1,
}


@pytest.mark.parametrize("name", OTHER)
def test_every_parameter_changes_what_is_learned(X, name):
    rows = (X - X.mean(axis=0)) / (2 * X.std(axis=0))
    usual = tiny("NAE").fit(rows).score_samples(rows)
    changed = tiny("NAE").set_params(**{name: OTHER[name]}).fit(rows)
    assert not np.array_equal(changed.score_samples(rows), usual)


def test_no_parameter_was_forgotten():
    elsewhere = {
        "latent_penalty",
        "contamination",
        "warm_start",
        "calibration_fraction",
        "stopping",
    }
    elsewhere |= {"device", "verbose", "callbacks", "image_shape", "latent_chain__metropolis"}
    elsewhere |= {"n_levels"}  # of images: tests/test_mpdr_options.py
    # These are refused, below.
    elsewhere |= {"latent_chain__gamma", "latent_chain__bounds", "visible_chain__gamma"}
    objects = {"latent_chain", "visible_chain", "replay"}
    assert set(NAE().get_params()) - objects == set(OTHER) | elsewhere


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sampling": "mcmc"}, "sampling"),
        ({"distance": "cosine"}, "distance"),
        ({"temperature": 0.0}, "temperature"),
        ({"replay": Replay(ratio=1.5)}, "ratio"),
        ({"latent_penalty": 0.1}, "latent_space='sphere'"),
        ({"visible_chain": Chain(clip=0.1, metropolis=True)}, "cannot be combined with clip"),
        ({"visible_chain": Chain(noise=0.0, metropolis=True)}, "noise > 0"),
        ({"visible_chain": Chain(bounds=(1, 0))}, "bounds"),
        ({"latent_chain": Chain(metropolis=True)}, "cannot be combined with sphere"),
        ({"latent_chain": Chain(noise="auto")}, "noise='auto' in latent_chain"),
        ({"network": (0,)}, "hidden_sizes"),
        # what would have no effect
        ({"latent_chain": Chain(gamma=0.1)}, "NAE has no use for gamma there"),
        ({"latent_chain": Chain(bounds="data")}, "NAE has no use for bounds there"),
        ({"visible_chain": Chain(gamma=0.0)}, "NAE has no use for gamma there"),
        ({"replay": Replay(0, ratio=0.5)}, "ratio=0.5 in replay=.* would be ignored"),
        ({"replay": Replay(50, ratio=0)}, "size=50 in replay=.* would be ignored: with ratio=0"),
        ({"visible_chain": Chain(noise=0, anneal=True)}, "anneal=True in Chain.* would be ignored"),
        (
            {"latent_chain": Chain(step_size=0, normalize=True)},
            "normalize=True in Chain.* would be ignored",
        ),
        ({"sampling": "cd", "replay": Replay(10)}, "replay=.* would be ignored"),
        ({"sampling": "cd", "replay": Replay(ratio=0.5)}, "replay=.* would be ignored"),
        (
            {"pretrain_steps": 0, "pretrain_learning_rate": 0.1},
            "pretrain_learning_rate=0.1 would be ignored: pretrain_steps=0",
        ),
    ],
)
def test_what_cannot_be_is_refused(X, parameters, message):
    with pytest.raises(ValueError, match=message):
        tiny("NAE", **parameters).fit(X)


def test_options_of_chains_reach_the_chains():
    chain = Chain(noise=0.2, clip=0.1, anneal=True, bounds=(-1, 1))
    detector = NAE(visible_chain=chain, latent_chain=Chain(7))
    made = detector._make_module(4)
    latent, visible = made.settings.latent, made.settings.visible
    assert latent.n_steps == 7 and latent.sphere
    assert visible.clip == 0.1 and visible.anneal and made.bounds == (-1, 1)
    detector = NAE(latent_space="euclidean", latent_chain=Chain(metropolis=True))
    latent = detector._make_module(4).settings.latent
    assert latent.metropolis and not latent.sphere


@pytest.mark.parametrize("sampling", ["cd", "pcd"])
def test_without_omi_the_latent_chain_is_that_of_samples_alone(X, sampling):
    usual, other = (
        tiny("NAE", sampling=sampling, latent_chain=chain).fit(X)
        for chain in (None, Chain(3, noise=0.3))
    )
    np.testing.assert_array_equal(usual.score_samples(X), other.score_samples(X))
    samples = [detector.sample(5, random_state=0) for detector in (usual, other)]
    assert not np.array_equal(*samples)


@pytest.mark.parametrize(
    ("parameters", "step", "temperature"),
    [
        ({"temperature": 0.5}, 0.1 * 4 * 0.5, 0.5 * 0.3**2 / (2 * 0.2)),
        ({"visible_chain": Chain(2, metropolis=True)}, 0.3**2 / 2, 1.0),
        ({"temperature_learning_rate": 1e-9}, 0.3**2 / 2, 1.0),
        ({"visible_chain": Chain(2, step_size=0.09)}, 0.09, 0.5),
        ({"visible_chain": Chain(2, step_size=0.09, noise=0.0)}, 0.09, 1.0),
    ],
)
def test_step_size_and_the_temperature_that_chains_have(X, parameters, step, temperature):
    detector = tiny("NAE", **parameters).fit(X)
    assert detector.module_.settings.visible.step_size == pytest.approx(step)
    assert detector._temperature() == pytest.approx(temperature)


def test_the_encoders_penalty_shrinks_its_weights(X):
    sizes = []
    for penalty in (0.0, 0.1):
        net = tiny("NAE", encoder_penalty=penalty, pretrain_steps=100).fit(X).module_.base.net
        sizes.append(sum(float(p.detach().square().sum()) for p in net.encoder.parameters()))
    assert sizes[1] < 0.8 * sizes[0]


@pytest.mark.parametrize("experiment", ["2d", "mnist", "cifar10", "celeba"])
def test_the_papers_settings_train(experiment):
    short = {"pretrain_steps": 2, "max_steps": 2, "batch_size": 4, "random_state": 0}
    networks = {"mnist": Conv28, "cifar10": Conv32, "celeba": Conv64}
    paper = NAE.from_paper(experiment)
    if experiment == "2d":
        assert paper.standardize is False and paper.network is None
        detector, shape = NAE.from_paper(experiment, network=(8,), **short), (60, 2)
    else:
        network = networks[experiment]
        assert paper.part("network") == network()
        detector = NAE.from_paper(experiment, network=network(width=1 / 32), **short)
        shape = (8, *detector.image_shape)
    rows = np.random.RandomState(0).rand(*shape)
    detector.fit(rows)
    assert np.isfinite(detector.score_samples(rows)).all()
    assert detector.learning_rate == 1e-5
    assert detector.encoder_penalty == (1e-4 if experiment in ("mnist", "cifar10") else 0)
    table_11 = {
        "2d": ((10, 0.005, 0.1), (30, 0.005, 0.1, False, None, True), 1e-3),
        "mnist": ((10, 0.2, 0.05), (50, 10, 0.05, True, 0.01, False), 0),
        "cifar10": ((20, 1, 0.02), (40, 10, 0.02, True, 0.01, False), 0),
        "celeba": ((20, 1, 0.02), (40, 10, 0.02, True, 0.01, False), 0),
    }
    latent, visible = detector.part("latent_chain"), detector.part("visible_chain")
    fields = ("steps", "step_size", "noise", "anneal", "clip", "metropolis")
    assert (
        tuple(getattr(latent, name) for name in fields[:3]),
        tuple(getattr(visible, name) for name in fields),
        detector.temperature_learning_rate,
    ) == table_11[experiment]


def test_the_paper_has_no_such_experiment():
    with pytest.raises(ValueError, match="2d, mnist, cifar10, celeba"):
        NAE.from_paper("tables")


# ---- energies, densities, samples --------------------------------------------------------------


@pytest.mark.parametrize("distance", ["l2", "l1"])
def test_energy_is_the_mean_error_and_the_score_its_share_of_the_temperature(X, distance):
    detector = tiny("NAE", temperature=0.3, distance=distance).fit(X)
    rows = torch.from_numpy(detector.units_.to_standard(X))
    with torch.no_grad():
        error = rows - detector.module_.base.net(rows)
    mean = (error.square() if distance == "l2" else error.abs()).mean(dim=1).numpy()
    np.testing.assert_allclose(detector.energy(X), mean, rtol=1e-4)
    np.testing.assert_allclose(detector.score_samples(X), -mean / 0.3, rtol=1e-4)


def test_a_density_on_a_grid_integrates_to_one_and_follows_the_energy():
    X = normal_rows(100, 2)
    detector = tiny("NAE", temperature=0.4).fit(X)
    low, high = X.min(axis=0), X.max(axis=0)
    xs, ys = np.linspace(low[0], high[0], 50), np.linspace(low[1], high[1], 40)
    log_density = detector.log_density_grid(xs, ys)
    assert log_density.shape == (40, 50)
    cell = (xs[1] - xs[0]) * (ys[1] - ys[0])
    assert np.exp(log_density).sum() * cell == pytest.approx(1)
    points = [[xs[7], ys[3]], [xs[20], ys[30]]]
    difference = -np.subtract(*detector.energy(points)) / detector._temperature()
    assert log_density[3, 7] - log_density[30, 20] == pytest.approx(difference, rel=1e-4)


def test_a_density_on_a_grid_is_for_the_plane(X):
    with pytest.raises(ValueError, match="fitted on 4 features, it needs 2"):
        tiny("NAE").fit(X).log_density_grid([0, 1], [0, 1])
    detector = tiny("NAE").fit(X[:, :2])
    for xs in ([1, 0], [0], [0, np.inf], [[0, 1]]):
        with pytest.raises(ValueError, match="rising order"):
            detector.log_density_grid(xs, [0, 1])


def test_samples_come_in_the_units_of_the_rows_and_change_nothing(X):
    detector = tiny("NAE").fit(X)
    before = {name: value.clone() for name, value in detector.module_.state_dict().items()}
    rows = len(detector.module_.replayed)
    sample = detector.sample(300, random_state=0)
    assert sample.shape == (300, 4) and sample.dtype == np.float64
    np.testing.assert_array_equal(sample, detector.sample(300, random_state=0))
    assert not np.array_equal(sample, detector.sample(300, random_state=1))
    assert all(torch.equal(before[k], v) for k, v in detector.module_.state_dict().items())
    assert len(detector.module_.replayed) == rows
    # Within the chain's bounds: the range of the rows and one standard deviation.
    room = X.std(axis=0) * 1.001
    assert (sample >= X.min(axis=0) - room).all() and (sample <= X.max(axis=0) + room).all()


def test_sampling_runs_a_latent_chain_eight_times_as_long(X, monkeypatch):
    detector = tiny("NAE").fit(X)
    lengths = []
    run = Langevin.run
    monkeypatch.setattr(Langevin, "run", lambda c, *a: lengths.append(c.n_steps) or run(c, *a))
    detector.sample(5)
    detector.sample(5, latent_steps=3, visible_steps=7)
    assert lengths == [16, 2, 3, 7]


def test_the_latest_negatives_are_kept_and_do_not_go_into_files(X, tmp_path):
    detector = tiny("NAE", max_steps=100).fit(X)
    assert detector.negatives_.shape == (1000, 4)
    assert np.isfinite(detector.negatives_).all()
    detector.save(tmp_path / "detector")
    assert NAE.load(tmp_path / "detector").negatives_.shape == (0, 4)


@pytest.mark.parametrize(("sampling", "n_kept"), [("omi", 160 + 16), ("pcd", 16), ("cd", 0)])
def test_states_of_chains_go_on_only_where_chains_start_likewise(sampling, n_kept):
    X = normal_rows()
    detector = tiny("NAE", latent_dim=4).fit(X)
    assert detector.module_.replayed.rows.shape == (160, 4)
    detector.set_params(sampling=sampling, max_steps=1).partial_fit(X)
    assert len(detector.module_.replayed) == n_kept
