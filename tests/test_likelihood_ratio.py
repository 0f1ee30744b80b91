"""Likelihood ratios: closed forms, the outlier losses, what trains which model, what is refused."""

import copy
import math
import pickle
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy.stats import multivariate_normal
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skgenad
from skgenad import (
    VAE,
    Autoencoder,
    DivergenceWarning,
    Glow,
    LikelihoodRatio,
    Mahalanobis,
    PixelCNN,
)
from skgenad._core.loop import Stage
from skgenad._core.training import run_stage
from skgenad._core.units import StandardUnits
from skgenad._tensors.model import Model
from skgenad.likelihoods import likelihood_ratio
from skgenad.likelihoods._outliers import OutlierObjective, margin_loss, ratio_loss
from skgenad.likelihoods._png import PNGModel

from ._settings import ALL_ROWS, TINY, normal_rows, tiny

pytestmark = pytest.mark.usefixtures("drawing")

# Closed forms, and what trains which model, are those of all rows.
ratio_of = partial(LikelihoodRatio, **ALL_ROWS)
gaussian = partial(Mahalanobis, **ALL_ROWS)


def vae(**parameters):
    quick = {**TINY["VAE"], **ALL_ROWS, "n_importance_samples": 4, "score_type": "likelihood"}
    return VAE(**{**quick, **parameters})


def wide_rows(n=150, d=4, seed=5):
    """Rows of a general distribution around that of `normal_rows`."""
    X = normal_rows(n, d)
    return X.mean(axis=0) + np.random.RandomState(seed).randn(n, d) * 2 * X.std(axis=0)


def gaussian_log_density(X, new):
    """Closed form, of columns brought to one size first."""
    unit = X.std(axis=0)
    density = multivariate_normal(X.mean(axis=0) / unit, np.cov((X / unit).T, bias=True))
    return density.logpdf(new / unit) - np.log(unit).sum()


# ---- the score ----------------------------------------------------------------------------------


def test_two_gaussians_have_the_log_ratio_of_their_densities():
    X, G, new = normal_rows(), wide_rows(), wide_rows(40, seed=6)
    ratio = ratio_of(gaussian(), gaussian()).fit(X, X_general=G)
    expected = gaussian_log_density(X, new) - gaussian_log_density(G, new)
    np.testing.assert_allclose(ratio.score_samples(new), expected, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("model", [gaussian(), vae()], ids=["Mahalanobis", "VAE"])
def test_equal_models_score_0_everywhere(model):
    X = normal_rows()
    frozen = FrozenEstimator(clone(model).fit(X))
    assert not ratio_of(frozen, frozen).fit(X).score_samples(wide_rows()).any()
    # The same rows and seeds, where the second does not go on from the first.
    unlike_default = {"finetune": False} if model.trained_by_gradients else {}
    ratio = ratio_of(model, **unlike_default).fit(X, X_general=X)
    assert not ratio.score_samples(wide_rows()).any()


def test_units_of_columns_have_no_part_in_it():
    X, G, new = normal_rows(), wide_rows(), wide_rows(30, seed=7)
    unit = np.array([1e-3, 8, 300, 0.7])
    scores = ratio_of(vae()).fit(X, X_general=G).score_samples(new)
    converted = ratio_of(vae()).fit(X * unit, X_general=G * unit).score_samples(new * unit)
    np.testing.assert_allclose(converted, scores, rtol=1e-3, atol=1e-3)


class Fixed(BaseEstimator):
    """A model whose log densities are the first column."""

    def fit(self, X, y=None):
        return self

    def log_density(self, X):
        return X[:, 0]


class Flat(Fixed):
    def log_density(self, X):
        return np.where(X[:, 1] > 0, X[:, 1], np.nan)


class Infinite(Fixed):
    def log_density(self, X):
        return np.where(X[:, 0] > 0, 0, -np.inf)


def test_only_what_is_not_finite_is_replaced():
    X = np.array([[1.0, 2.0], [-9e6, 2], [1e30, 2], [1, -2], [-5, 7]])
    ratio = ratio_of(Fixed(), Flat()).fit(X)
    np.testing.assert_array_equal(ratio.score_samples(X), [-1, -9e6 - 2, 1e30 - 2, 1 + 3e6, -12])
    scores = ratio_of(Infinite(), Flat()).fit(X).score_samples(X)
    np.testing.assert_array_equal(scores, [-2, -3e6 - 2, -2, 3e6, -3e6 - 7])


def test_without_general_rows_the_general_model_knows_columns_and_not_how_they_go_together():
    X = normal_rows(300)
    ratio = ratio_of(random_state=0).fit(X)
    general = ratio.general_
    np.testing.assert_allclose(general.means_[0], X.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(general.covariance_.diagonal(), X.var(axis=0), rtol=1e-6)
    scale = X.std(axis=0)
    off_diagonal = (general.covariance_ / scale / scale[:, None])[~np.eye(4, dtype=bool)]
    assert np.abs(off_diagonal).max() < 0.2 < np.abs(np.corrcoef(X.T) - np.eye(4)).max()
    shuffled = np.random.default_rng(1).permuted(X, axis=0)
    scores = ratio.score_samples(np.vstack([X, shuffled]))
    assert roc_auc_score(np.repeat([1, 0], 300), scores) > 0.8


# ---- the losses ---------------------------------------------------------------------------------


def test_the_ratio_loss_is_equation_2():
    log_in, log_general = torch.tensor([-10.0, 3.0]), torch.tensor([-12.0, 3.0])
    by_hand = [math.log(1 + math.e), math.log(2)]  # log ratios of 2 and 0 at T = 2
    np.testing.assert_allclose(ratio_loss(log_in, log_general, 2.0), by_hand, rtol=1e-6)
    # Its second form: T-th roots of the densities.
    p_in, p_general = log_in.exp() ** (1 / 2), log_general.exp() ** (1 / 2)
    roots = -torch.log(p_general / (p_in + p_general))
    torch.testing.assert_close(ratio_loss(log_in, log_general, 2.0), roots)


def test_the_margin_loss_is_a_hinge_on_the_difference():
    values = margin_loss(torch.tensor([-3.0, -3.0]), torch.tensor([-5.0, -8.0]), 4.0)
    assert values.tolist() == [2.0, 0.0]


class Line(Model):
    """Log density w x for x < 9, and -inf beyond, with no gradient there; classes have c w x."""

    def __init__(self, w=2.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))

    def log_prob(self, x):
        return self.w * (x[:, 0] + torch.log((x[:, 0] < 9).float()))

    def class_log_probs(self, x):
        return self.log_prob(x)[:, None] * torch.arange(1, 4)


def likelihood(module, batch):
    return {"loss": -module.log_prob(batch[:, :1]).mean()}


def against(outliers, log_other, kind="ratio", scale=1.0, **parameters):
    detector = gaussian()
    detector.units_ = StandardUnits(np.zeros(1), np.full(1, scale))
    outliers = np.array(outliers, dtype=float)[:, None]
    settings = {"temperature": 4.0, "penalty": 3.0, **parameters}
    return OutlierObjective(detector, outliers, np.array(log_other), kind=kind, **settings)


def column(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None]


def test_the_loss_on_outliers_is_added_to_the_detectors_own():
    objective = against([1.0, 1.0], [-3.0, -3.0], scale=0.5)
    parts = objective(likelihood, Line(), column(0, 1))
    # In units of X the outliers are at 1, in standard units at 2; log p_in = 2 * 2 - log(0.5).
    expected = 3 * math.log1p(math.exp((4 - math.log(0.5) + 3) / 4))
    assert parts["outlier_loss"].item() == pytest.approx(expected)
    assert parts["loss"].item() == pytest.approx(-1 + expected)
    parts["loss"].backward()


def test_the_margin_is_a_nat_for_each_column_and_data_are_its_fixed_level():
    module = Line()
    parts = against([0.0, 0.0], [0.0, 0.0], "margin", scale=0.5)(
        likelihood, module, column(0.25, 0.25)
    )
    assert parts["outlier_loss"].item() == pytest.approx(3 * (1 + 0 - 0.5))
    parts["outlier_loss"].backward()
    assert module.w.grad == 0  # x = 0 for outliers, and none from the data


def test_rows_of_other_classes_are_outliers_of_each_mode():
    settings = {"other": lambda X: X[:, 0] - 1, "with_classes": True, "scale": 0.5}
    objective = against([0.0], [0.0], **settings)
    batch = torch.tensor([[1.0, 0.0], [2.0, 2.0]])  # rows and classes
    parts = objective(likelihood, Line(), batch)
    # In units of X the rows are 0.5 and 1: log p(x | c) = 2 (c + 1) x - log(0.5); log p_g = X - 1.
    ratios = np.array([4 + 0.5, 6 + 0.5, 4 - 0, 8 - 0]) + math.log(2)
    # Of 3 modes each row has its own, which counts as no loss.
    expected = 3 * np.sum([math.log1p(math.exp(r / 4)) for r in ratios]) / (2 * 3)
    assert parts["class_loss"].item() == pytest.approx(expected, rel=1e-5)
    total = likelihood(Line(), batch)["loss"] + parts["outlier_loss"] + parts["class_loss"]
    assert parts["loss"].item() == pytest.approx(total.item())


def test_outliers_keep_their_log_densities_in_any_order():
    x = np.arange(1, 8)
    objective = against(x, 2.0 * x - 3)  # log p_in is 2 x
    for _ in range(5):
        parts = objective(likelihood, Line(), column(0, 1))
        assert parts["outlier_loss"].item() == pytest.approx(3 * math.log1p(math.exp(3 / 4)))


def test_outliers_are_augmented_as_data_are():
    objective = against([1.0], [-99.0], other=lambda X: X[:, 0] - 1)
    module = Line()
    module.augmented = lambda x: x / 2
    parts = objective(likelihood, module, column(0.0))
    # The half of 1: log p_in = 2 * 0.5, log p_g = 0.5 - 1.
    expected = 3 * math.log1p(math.exp((1 + 0.5) / 4))
    assert parts["outlier_loss"].item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["ratio", "margin"])
@pytest.mark.parametrize("bad", ["data", "outliers", "other"])
def test_rows_without_a_finite_likelihood_are_left_out(kind, bad):
    x, outliers, log_other = [1.0, 2, 3, 4], [1.0, 1, 1, 1], [0.0, 0, 0, 0]
    {"data": x, "outliers": outliers, "other": log_other}[bad][1] = (
        -math.inf if bad == "other" else 10.0
    )
    module = Line()
    parts = against(outliers, log_other, kind)(likelihood, module, column(*x))
    clean = Line()
    kept = [1.0, 3, 4] if bad == "data" else x
    less = against([1.0], [0.0], kind)(likelihood, clean, column(*kept))
    assert parts["loss"].isfinite()
    if kind == "ratio":
        assert parts["loss"].item() == pytest.approx(less["loss"].item())
    parts["loss"].backward()
    assert module.w.grad.isfinite()


@pytest.mark.parametrize(("n_bad", "skips"), [(3, False), (4, True)])
@pytest.mark.parametrize("bad", ["data", "outliers", "other"])
def test_a_batch_that_loses_more_than_75_percent_is_skipped(bad, n_bad, skips):
    # 3 of 4 is 75 %.
    x, outliers, log_other = [1.0] * 4, [1.0] * 4, [0.0] * 4
    worst = -math.inf if bad == "other" else 10.0
    {"data": x, "outliers": outliers, "other": log_other}[bad][:n_bad] = [worst] * n_bad
    parts = against(outliers, log_other)(likelihood, Line(), column(*x))
    assert parts["loss"].requires_grad != skips


def test_a_skipped_batch_moves_nothing_and_a_stage_of_them_diverges():
    module = Line()
    optimizers = {"main": torch.optim.Adam(module.parameters(), lr=0.1)}
    objective = partial(against([10.0], [0.0]), likelihood)
    stage = Stage(name="toy", objective=objective, optimizers=optimizers, n_steps=60)
    with pytest.warns(DivergenceWarning, match="loss nan"):
        table = run_stage(module, stage, column(1, 2), batch_size=2)
    assert module.w == 2 and table["step"].tolist() == [50]


def test_the_mean_of_an_epoch_is_that_of_the_batches_that_were_not_skipped():
    module, losses = Line(), iter([3.0, None, 1.0])

    def objective(module, x):
        loss = next(losses)
        return {"loss": x.new_zeros(()) if loss is None else loss + 0 * module.w}

    optimizers = {"main": torch.optim.Adam(module.parameters(), lr=0.1)}
    stage = Stage(name="toy", objective=objective, optimizers=optimizers, n_steps=3)
    table = run_stage(module, stage, column(1), batch_size=1)
    assert table["loss"].tolist() == [2.0] and table["step"].tolist() == [3]


# ---- training -----------------------------------------------------------------------------------

SLOW = {"learning_rate": 1e-12, "sigma": 1.0}


def test_finetuning_begins_with_the_general_model():
    X, G = normal_rows(), wide_rows()
    ratio = ratio_of(vae(**SLOW), random_state=0).fit(X, X_general=G)
    assert np.abs(ratio.score_samples(X)).max() < 1e-3
    assert ratio.detector_.units_ is ratio.general_.units_
    alone = ratio_of(vae(**SLOW), finetune=False, random_state=0).fit(X, X_general=G)
    assert np.abs(alone.score_samples(X)).max() > 0.1


def test_finetuning_begins_with_a_frozen_general_model_and_leaves_it_alone():
    X = normal_rows()
    general = vae().fit(wide_rows())
    before = copy.deepcopy(general.module_.state_dict())
    ratio = ratio_of(vae(**SLOW), FrozenEstimator(general)).fit(X)
    assert ratio.general_ is general and np.abs(ratio.score_samples(X)).max() < 1e-3
    assert all(
        torch.equal(value, before[name]) for name, value in general.module_.state_dict().items()
    )


@pytest.mark.parametrize("loss", ["ratio", "margin"])
def test_an_outlier_loss_lowers_the_likelihood_of_the_general_distribution(loss):
    X, G, new = normal_rows(200), wide_rows(), wide_rows(100, seed=8)
    settings = {"max_steps": 60, "learning_rate": 2e-2}
    strength = {"temperature": 10, "outlier_penalty": 30} if loss == "ratio" else {}
    plain, trained = (
        ratio_of(vae(**settings), random_state=0, **parameters).fit(X, X_general=G)
        for parameters in ({}, {"outlier_loss": loss, **strength})
    )
    lower = plain.detector_.log_density(new) - trained.detector_.log_density(new)
    higher = trained.detector_.log_density(X) - plain.detector_.log_density(X)
    assert np.median(lower) > 2 and np.median(lower) > -2 * np.median(higher)
    assert "outlier_loss" in trained.detector_.history_
    assert "outlier_loss" not in trained.general_.history_


def test_a_margin_survives_normal_rows_among_those_of_the_general_distribution():
    X, new = np.split(normal_rows(150), [100])
    settings = {**TINY["Glow"], "max_steps": 150, "learning_rate": 2e-2}
    ratio = ratio_of(Glow(**settings), outlier_loss="margin", random_state=0)
    ratio.fit(X, X_general=np.vstack([X, wide_rows(100)]))
    general, specific = ratio.general_.log_density(new), ratio.detector_.log_density(new)
    assert np.median(specific) > np.median(general) - 4


def test_both_sides_train_the_general_model_on_with_training_rows_as_outliers():
    X, G = normal_rows(200), wide_rows()
    settings = {
        "outlier_loss": "ratio",
        "temperature": 10,
        "outlier_penalty": 30,
        "random_state": 0,
    }
    one, both = (
        ratio_of(vae(max_steps=50, learning_rate=1e-2), outlier_side=side, **settings).fit(
            X, X_general=G
        )
        for side in ("in", "both")
    )
    np.testing.assert_array_equal(one.detector_.log_density(X), both.detector_.log_density(X))
    assert np.median(one.general_.log_density(X) - both.general_.log_density(X)) > 1
    assert "outlier_loss" in both.general_.history_


def test_each_side_has_the_rows_of_the_other_as_outliers_and_its_densities(monkeypatch):
    made = []

    class Recorded(OutlierObjective):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.began = None
            made.append(self)

        def __call__(self, objective, module, batch):
            if self.began is None:
                self.began = copy.deepcopy(module.state_dict())
            return super().__call__(objective, module, batch)

    monkeypatch.setattr(likelihood_ratio, "OutlierObjective", Recorded)
    X, G = normal_rows(), wide_rows()
    settings = {"outlier_loss": "ratio", "outlier_side": "both", "temperature": 7}
    model = vae(learning_rate=1e-2)
    both = ratio_of(model, **settings, outlier_penalty=3, random_state=0)
    both.fit(X, X_general=G)
    first = ratio_of(model, random_state=0).fit(X, X_general=G).general_
    specific, general = made
    np.testing.assert_array_equal(specific.outliers, G)
    np.testing.assert_array_equal(specific.log_other, first.log_density(G))
    np.testing.assert_array_equal(general.outliers, X)
    np.testing.assert_array_equal(general.log_other, both.detector_.log_density(X))
    assert {(o.kind, o.temperature, o.penalty) for o in made} == {("ratio", 7, 3)}
    for objective in made:  # both begin where the first general model ended
        assert all(
            torch.equal(v, objective.began[k]) for k, v in first.module_.state_dict().items()
        )


def test_the_penalties_are_the_papers_unless_asked_otherwise(monkeypatch):
    made = []
    monkeypatch.setattr(
        likelihood_ratio, "OutlierObjective", lambda *args, **kwargs: made.append(kwargs) or likely
    )

    def likely(objective, module, batch):
        return objective(module, batch)

    for kind, penalty in (("ratio", None), ("margin", None), ("margin", 0.5)):
        ratio = ratio_of(vae(), outlier_loss=kind, outlier_penalty=penalty)
        ratio.fit(normal_rows(), X_general=wide_rows())
    assert [settings["penalty"] for settings in made] == [6000, 1, 0.5]


def test_parameters_of_the_detector_are_set_by_their_paths():
    ratio = ratio_of(Glow()).set_params(detector__hidden=9, outlier_loss="ratio")
    assert ratio.get_params()["detector__hidden"] == 9 == clone(ratio).detector.hidden
    assert clone(ratio).get_params()["outlier_loss"] == "ratio"


def test_no_more_outliers_are_looked_at_than_training_sees():
    seen = []

    class Watched(VAE):
        def log_density(self, X):
            seen.append(len(X))
            return super().log_density(X)

    detector = Watched(**{**vae().get_params(deep=False), "max_steps": 2})
    ratio_of(detector, outlier_loss="ratio").fit(normal_rows(), X_general=wide_rows(500))
    assert seen[0] == 2 * 16


def test_a_seed_decides_everything():
    X = normal_rows()
    make = lambda seed: ratio_of(vae(random_state=None), random_state=seed)  # noqa: E731
    one, two, other = (make(seed).fit(X).score_samples(X) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


# ---- fit_from -----------------------------------------------------------------------------------


def test_fit_from_says_what_it_cannot_start_from():
    X = normal_rows()
    fitted = vae().fit(X)
    with pytest.raises(ValueError, match="Mahalanobis is not trained by gradients: use fit"):
        gaussian().fit_from(X)
    with pytest.raises(ValueError, match="start is a VAE; pass a fitted Autoencoder"):
        Autoencoder().fit_from(X, start=fitted)
    with pytest.raises(ValueError, match="start was fitted on 4 columns, but X has 3"):
        vae().fit_from(X[:, :3], start=fitted)
    for other in ({"network": (8,)}, {"latent_dim": 3}):
        with pytest.raises(ValueError, match="start has another architecture"):
            vae(**other).fit_from(X, start=fitted)


def test_fit_from_wants_the_columns_of_the_start():
    X = pd.DataFrame(normal_rows(), columns=list("abcd"))
    start = vae().fit(X)
    vae().fit_from(X, start=start)
    vae().fit_from(X.to_numpy(), start=start)  # without names there is nothing to compare
    with pytest.raises(
        ValueError, match=r"Column 1 of X is 'c'.*is 'b'.*Pass X\[start.feature_nam"
    ):
        vae().fit_from(X[list("acbd")], start=start)
    with pytest.raises(ValueError, match="Column 3 of X is 'e'.*is 'd'. X lacks 'd', which start"):
        vae().fit_from(X.rename(columns={"d": "e"}), start=start)


def test_fit_from_with_nothing_more_is_fit():
    X = normal_rows()
    np.testing.assert_array_equal(
        vae().fit_from(X).decision_function(X), vae().fit(X).decision_function(X)
    )


def test_an_extra_objective_is_called_in_place_of_the_last_stages():
    X, calls = normal_rows(), []

    def extra(objective, module, batch):
        calls.append(batch.shape)
        parts = objective(module, batch)
        return {**parts, "loss": 2 * parts["loss"], "more": parts["loss"]}

    detector = vae(max_steps=30).fit_from(X, extra_objective=extra)
    # A loss that has risen is looked at in four batches, before and after.
    assert set(calls) == {(16, 4)} and len(calls) in (30, 38)
    row = detector.history_.iloc[-1]
    assert row["loss"] == pytest.approx(2 * row["more"])


def test_what_more_is_trained_for_is_not_undone_by_a_choice_of_epochs():
    settings = {**TINY["PixelCNN"], "validation_fraction": 0.2}
    ratio = ratio_of(PixelCNN(**settings), outlier_loss="ratio", temperature=10, outlier_penalty=10)
    ratio.fit(normal_rows(), X_general=wide_rows())
    assert "validation_loss" in ratio.general_.history_
    assert "validation_loss" not in ratio.detector_.history_


# ---- classes ------------------------------------------------------------------------------------


def two_classes():
    X = normal_rows(120)
    y = np.repeat(["a", "b"], 60)
    X[60:] += 3 * X.std(axis=0)
    return X, y


def test_classes_reach_the_specific_model_only():
    X, y = two_classes()
    ratio = ratio_of(gaussian(use_labels=True)).fit(X, y, X_general=wide_rows())
    assert ratio.classes_.tolist() == ["a", "b"] == ratio.detector_.classes_.tolist()
    assert not ratio.general_.use_labels
    mixture = gaussian(use_labels=True).fit(X, y)
    expected = mixture.log_density(X) - gaussian().fit(wide_rows()).log_density(X)
    np.testing.assert_array_equal(ratio.score_samples(X), expected)
    assert ratio.__sklearn_tags__().target_tags.required
    with pytest.raises(ValueError, match="requires y to be passed"):
        ratio_of(gaussian(use_labels=True)).fit(X)


def test_held_out_rows_keep_their_classes_to_themselves():
    X, y = two_classes()
    detector = gaussian(use_labels=True)
    ratio = ratio_of(detector, calibration_fraction=0.25, random_state=0).fit(X, y)
    assert len(ratio.calibration_scores_) == 30
    assert set(ratio.p_value(X)) <= {k / 31 for k in range(1, 32)}
    np.testing.assert_allclose(ratio.detector_.module_.counts.sum(), 90)


# ---- the PNG model ------------------------------------------------------------------------------


def pictures(n=30, shape=(1, 8, 8), seed=0):
    return np.random.RandomState(seed).randint(0, 256, (n, *shape)).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_counts_the_bits_of_a_file(channels):
    shape = (channels, 16, 16)
    noise, flat = pictures(5, shape).reshape(5, -1), np.full((1, channels * 256), 7, np.uint8)
    model = PNGModel(shape)
    level = noise.shape[1] * math.log(255)
    bits = (level - model.log_density(np.vstack([noise, flat]))) / math.log(2)
    np.testing.assert_allclose(bits / 8, np.rint(bits / 8), atol=1e-6)
    assert bits[-1] < 800  # little more than the headers
    assert (bits[:-1] > 8 * 256 * channels).all()  # noise cannot be compressed
    np.testing.assert_array_equal(model.log_density(noise / 255), model.log_density(noise))


def test_png_has_the_pixels_in_their_places(monkeypatch):
    pillow, seen = pytest.importorskip("PIL.Image"), []
    make = pillow.fromarray
    monkeypatch.setattr(pillow, "fromarray", lambda array: seen.append(array) or make(array))
    X = pictures(1, (3, 4, 6))
    PNGModel((3, 4, 6)).log_density(X.reshape(1, -1))
    np.testing.assert_array_equal(seen[0], X[0].transpose(1, 2, 0))


def test_png_as_the_general_model():
    X = pictures()
    detector = vae(image_shape=(1, 8, 8))
    ratio = ratio_of(detector, "png").fit(X)
    flat = X.reshape(30, -1)
    expected = ratio.detector_.log_density(X) - PNGModel((1, 8, 8)).log_density(flat)
    np.testing.assert_array_equal(ratio.score_samples(X), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ratio)).score_samples(X), expected)
    alone = clone(detector).fit(X)
    np.testing.assert_array_equal(ratio.detector_.score_samples(X), alone.score_samples(X))
    trained = ratio_of(detector, "png", outlier_loss="ratio").fit(X, X_general=X[::-1])
    assert "outlier_loss" in trained.detector_.history_


class WithoutPillow:
    def find_spec(self, name, *args):
        if name.partition(".")[0] == "PIL":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_png_is_for_images_of_one_or_three_channels(monkeypatch):
    with pytest.raises(ValueError, match="compresses images, but the detector VAE has no image_sh"):
        ratio_of(vae(), "png").fit(normal_rows())
    with pytest.raises(ValueError, match=r"1 or 3 channels; image_shape=\(2, 8, 8\) has 2"):
        ratio_of(vae(image_shape=(2, 8, 8)), "png").fit(pictures(shape=(2, 8, 8)))
    for module in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [WithoutPillow(), *sys.meta_path])
    with pytest.raises(ImportError, match=r"skgenad\[images\]"):
        ratio_of(vae(image_shape=(1, 8, 8)), "png").fit(pictures())


def test_images_come_in_every_form():
    X = pictures()
    ratio = ratio_of(vae(image_shape=(1, 8, 8)), random_state=0).fit(X, X_general=X / 255)
    scores = ratio.score_samples(X)
    np.testing.assert_array_equal(ratio.score_samples((X / 255).reshape(30, -1)), scores)
    with pytest.raises(ValueError, match="X_general: .*wants"):
        ratio_of(vae(image_shape=(1, 8, 8))).fit(X, X_general=X[:, :, :7])


# ---- single scales ------------------------------------------------------------------------------


def flow(**parameters):
    settings = {"image_shape": (1, 8, 8), "n_scales": 2, "hidden": 6, "max_steps": 5}
    return tiny("Glow", **{**settings, **parameters})


@pytest.mark.parametrize(("score_type", "scale"), [("last_scale", 2), (1, 0), (2, 1), (3, 2)])
def test_the_ratio_of_a_scale_is_the_difference_of_what_it_adds(score_type, scale, tmp_path):
    X, G = pictures(), pictures(seed=1)
    whole = ratio_of(flow(n_scales=3), random_state=0).fit(X, X_general=G)
    ratio = ratio_of(flow(n_scales=3), score_type=score_type, random_state=0).fit(X, X_general=G)
    ours, theirs = (m.scale_contributions(G) for m in (ratio.detector_, ratio.general_))
    np.testing.assert_array_equal(ratio.score_samples(G), (ours - theirs)[:, scale])
    np.testing.assert_allclose((ours - theirs).sum(axis=1), whole.score_samples(G), atol=1e-3)
    scores = ratio.score_samples(X)
    ratio.save(tmp_path / "ratio")
    np.testing.assert_array_equal(LikelihoodRatio.load(tmp_path / "ratio").score_samples(X), scores)
    ratio.set_params(score_type="likelihood")  # a threshold is for what was fitted
    np.testing.assert_array_equal(ratio.score_samples(X), scores)


def test_files_of_before_single_scales_are_of_likelihoods(tmp_path, monkeypatch):
    ratio = ratio_of().fit(normal_rows())
    with monkeypatch.context() as patch:
        fitted = {k: v for k, v in ratio._fitted_parameters.items() if k != "score_type"}
        patch.setattr(ratio, "_fitted_parameters", fitted)
        ratio.save(tmp_path / "ratio")
    loaded = LikelihoodRatio.load(tmp_path / "ratio")
    np.testing.assert_array_equal(
        loaded.score_samples(wide_rows()), ratio.score_samples(wide_rows())
    )


def test_with_the_last_scale_alone_finetuned_the_others_cancel():
    """The ratio of likelihoods is then that of the last scale, whatever was learned."""
    X, G = pictures(), pictures(seed=1)
    settings = {"n_scales": 3, "trained_scales": 1, "max_steps": 30, "learning_rate": 0.05}
    ratio = ratio_of(flow(**settings), random_state=0).fit(X, X_general=G)
    assert ratio.general_.trained_scales is None  # it was trained whole
    ours, theirs = (m.scale_contributions(G) for m in (ratio.detector_, ratio.general_))
    np.testing.assert_array_equal(ours[:, :2], theirs[:, :2])
    assert (ours[:, 2] != theirs[:, 2]).all()
    last = (ours - theirs)[:, 2]
    np.testing.assert_allclose(ratio.score_samples(G), last, rtol=1e-6, atol=1e-6)


# ---- what does not go together ------------------------------------------------------------------

TRAINED = "part of training, but {} is a {}, which is {}"
BAD = [
    ({"outlier_loss": "ratio"}, TRAINED.format("detector", "Mahalanobis", "not trained by")),
    (
        {"detector": FrozenEstimator(vae().fit(normal_rows())), "outlier_loss": "ratio"},
        TRAINED.format("detector", "VAE", "frozen"),
    ),
    ({"outlier_side": "both"}, "outlier_side='both' would be ignored: outlier_loss=None has no l"),
    ({"temperature": 10}, "temperature=10 would be ignored: outlier_loss=None has no loss on"),
    ({"outlier_penalty": 60}, "outlier_penalty=60 would be ignored: outlier_loss=None has no"),
    (
        {"detector": vae(), "outlier_loss": "margin", "temperature": 10},
        "temperature=10 would be ignored: outlier_loss='margin' has none",
    ),
    ({"finetune": False}, "finetune=False would be ignored: Mahalanobis is not trained by"),
    (
        {"detector": FrozenEstimator(vae().fit(normal_rows())), "finetune": False},
        "finetune=False would be ignored: VAE is frozen",
    ),
    (
        {"detector": vae(image_shape=(1, 2, 2)), "general": "png", "finetune": False},
        "finetune=False would be ignored: PNGModel is not trained by gradients",
    ),
    (
        {
            "detector": vae(),
            "general": FrozenEstimator(vae().fit(normal_rows())),
            "outlier_loss": "ratio",
            "outlier_side": "both",
        },
        TRAINED.format("general", "VAE", "frozen"),
    ),
    ({"detector": vae(), "general": gaussian()}, "weights of the general model, which is a Mah"),
    ({"detector": Autoencoder()}, "detector.*log_density"),
    ({"general": "jpeg"}, "general.*Got 'jpeg' instead"),
    ({"score_type": "last_scale"}, "detector is a Mahalanobis, which has no scale_contributions"),
    (
        {"detector": flow(image_shape=(1, 2, 2)), "general": "png", "score_type": 1},
        "general is a PNGModel, which has no scale_contributions",
    ),
    ({"detector": flow(image_shape=None, n_scales=None), "score_type": 1}, "would be ignored"),
    (
        {"detector": flow(image_shape=(1, 2, 2)), "score_type": 3},
        "contribution of a scale, but there are 2",
    ),
    (
        {"detector": flow(image_shape=(1, 2, 2)), "general": flow(n_scales=3), "score_type": 1},
        "detector has 2 of them and general 3",
    ),
    ({"score_type": "scale"}, "score_type.*Got 'scale' instead"),
    ({"temperature": 0}, "temperature.*Got 0 instead"),
    ({"outlier_penalty": -1}, "outlier_penalty.*Got -1 instead"),
    ({"outlier_penalty": 0, "outlier_loss": "ratio"}, "outlier_penalty.*Got 0 instead"),
    ({"outlier_loss": "hinge"}, "outlier_loss.*Got 'hinge' instead"),
    ({"detector": FrozenEstimator(gaussian())}, "not fitted"),
]


@pytest.mark.parametrize(("parameters", "message"), BAD)
def test_what_cannot_be_is_refused_and_leaves_no_trace(parameters, message):
    ratio = ratio_of(**parameters)
    before = dict(vars(ratio))
    X = np.random.RandomState(0).rand(60, 4)  # rows, or images of 2 x 2 pixels
    with pytest.raises((ValueError, NotFittedError), match=message):
        ratio.fit(X)
    assert vars(ratio) == before


def test_general_rows_without_a_use_are_refused():
    general = FrozenEstimator(gaussian().fit(wide_rows()))
    with pytest.raises(ValueError, match="X_general has no use"):
        ratio_of(None, general).fit(normal_rows(), X_general=wide_rows())


def test_an_outlier_loss_needs_a_density_that_can_be_differentiated():
    class Opaque(Autoencoder):
        def log_density(self, X):
            return self.score_samples(X)

    with pytest.raises(ValueError, match="module of Opaque has no log_prob"):
        ratio_of(Opaque(**TINY["Autoencoder"]), outlier_loss="ratio").fit(normal_rows())


def test_bad_general_rows_are_named():
    for bad, message in (
        (wide_rows(d=3), "X_general: X has 3 features, but LikelihoodRatio is expecting 4"),
        (wide_rows(1), r"X_general: .*1 sample\(s\)"),
        (np.full((5, 4), np.nan), "X_general: Input X contains NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            ratio_of().fit(normal_rows(), X_general=bad)


# ---- inside scikit-learn ------------------------------------------------------------------------


def test_general_rows_are_routed_through_a_pipeline():
    X, G = normal_rows(), wide_rows()
    scaler = StandardScaler().fit(X)
    alone = ratio_of(gaussian()).fit(scaler.transform(X), X_general=G)
    scaled = ratio_of(gaussian()).fit(scaler.transform(X), X_general=scaler.transform(G))
    with sklearn.config_context(enable_metadata_routing=True):
        steps = [
            ("scale", StandardScaler()),
            ("detect", ratio_of(gaussian()).set_fit_request(X_general=True)),
        ]
        routed = clone(Pipeline(steps)).fit(X, X_general=G)
        transformed = Pipeline(steps, transform_input=["X_general"])
        transformed.fit(X, X_general=G)
        np.testing.assert_array_equal(
            routed.score_samples(X), alone.score_samples(scaler.transform(X))
        )
        np.testing.assert_array_equal(
            transformed.score_samples(X), scaled.score_samples(scaler.transform(X))
        )
        labelled = ratio_of(gaussian(use_labels=True)).set_fit_request(X_general=True)
        y = np.arange(60) % 2
        fitted = make_pipeline(StandardScaler(), labelled).fit(X, y, X_general=G)
        assert fitted[-1].classes_.tolist() == [0, 1]
    old = make_pipeline(StandardScaler(), ratio_of(gaussian()))
    old.fit(X, likelihoodratio__X_general=G)
    np.testing.assert_array_equal(old.score_samples(X), routed.score_samples(X))


def test_fit_predict_takes_general_rows():
    X, G = normal_rows(), wide_rows()
    ratio = ratio_of(contamination=0.25)
    labels = ratio.fit_predict(X, X_general=G)
    np.testing.assert_array_equal(labels, ratio.predict(X))
    assert (labels == -1).sum() == 15


def test_names_of_columns_reach_models_that_were_fitted_with_them():
    X, G = (pd.DataFrame(rows, columns=list("abcd")) for rows in (normal_rows(), wide_rows()))
    general = gaussian().fit(G)
    ratio = ratio_of(gaussian(), FrozenEstimator(general)).fit(X)
    scores = ratio.score_samples(X)
    twin = ratio_of(gaussian()).fit(X.to_numpy(), X_general=G.to_numpy())
    np.testing.assert_array_equal(scores, twin.score_samples(X.to_numpy()))
    with pytest.raises(ValueError, match="feature names should match"):
        ratio.score_samples(X[list("dcba")])


@pytest.mark.parametrize("model", [gaussian(), vae()], ids=["Mahalanobis", "VAE"])
def test_a_rows_score_depends_on_that_row_alone(model):
    ratio = ratio_of(model, random_state=0).fit(normal_rows())
    X = wide_rows(1100)
    scores = ratio.score_samples(X)
    order = np.random.RandomState(0).permutation(len(X))
    np.testing.assert_array_equal(ratio.score_samples(X[order]), scores[order])
    np.testing.assert_array_equal(ratio.score_samples(X[5:6]), scores[5:6])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ratio)).score_samples(X), scores)


def test_saved_models_make_the_ratio_again(tmp_path):
    X = normal_rows()
    ratio = ratio_of(vae(), random_state=0).fit(X, X_general=wide_rows())
    ratio.detector_.save(tmp_path / "detector")
    ratio.general_.save(tmp_path / "general")
    models = (FrozenEstimator(VAE.load(tmp_path / name)) for name in ("detector", "general"))
    again = ratio_of(*models).fit(X)
    np.testing.assert_array_equal(again.decision_function(X), ratio.decision_function(X))


def test_a_failed_fit_leaves_the_first():
    X = normal_rows()
    ratio = ratio_of().fit(X)
    scores = ratio.score_samples(X)
    for bad in (X[:1], np.full((9, 3), np.nan)):
        with pytest.raises(ValueError):
            ratio.fit(bad)
    with pytest.raises(ValueError):
        ratio.set_params(outlier_side="both").fit(X + 1)
    np.testing.assert_array_equal(ratio.score_samples(X), scores)


# ---- the phenomenon and its cure ----------------------------------------------------------------


def squares(n, noises, seed, at_the_centre=False, off_centre=False):
    """Grey images (n, 1, 8, 8): a brighter square, and noise of one of some deviations."""
    rng = np.random.RandomState(seed)
    X = 100 + rng.choice(noises, (n, 1, 1, 1)) * rng.randn(n, 1, 8, 8)
    for image in X[:, 0]:
        row, column = (2, 2) if at_the_centre else rng.randint(0, 5, 2)
        if off_centre:
            row = (row + 2) % 5 if row == column == 2 else row
        image[row : row + 4, column : column + 4] += 40
    return X.clip(0, 255).round().astype(np.uint8)


def test_a_likelihood_takes_smooth_images_for_normal_and_the_ratio_does_not():
    noises = [8, 16, 32]
    normal, new = (squares(n, noises, seed, at_the_centre=True) for seed, n in enumerate((200, 50)))
    of_all_kinds = squares(600, [2, *noises], 2)
    smooth = squares(50, [2], 3, off_centre=True)
    model = PixelCNN(
        **ALL_ROWS,
        image_shape=(1, 8, 8),
        hidden=8,
        n_scales=1,
        n_components=2,
        max_steps=60,
        learning_rate=1e-2,
        random_state=0,
    )
    ratio = ratio_of(model).fit(normal, X_general=of_all_kinds)

    def auroc(detector):
        scores = detector.anomaly_score(np.vstack([new, smooth]))
        return roc_auc_score(np.repeat([0, 1], 50), scores)

    assert auroc(clone(model).fit(normal)) < 0.3
    assert auroc(ratio) > 0.9


def test_glow_with_classes_has_rows_of_other_classes_as_outliers():
    X, y = two_classes()
    detector = Glow(**{**TINY["Glow"], "use_labels": True})
    ratio = ratio_of(detector, outlier_loss="ratio", temperature=10, outlier_penalty=10)
    ratio.fit(X, y, X_general=wide_rows())
    assert ratio.detector_.history_["class_loss"].gt(0).all()
    assert ratio.general_.module_.flow.prior is None
    weights = dict(ratio.detector_.module_.named_parameters())
    assert weights["flow.prior.means"].shape[0] == 2 and weights["flow.prior.means"].any()
    assert np.isfinite(ratio.score_samples(X)).all()


@pytest.mark.parametrize("name", ["Glow", "PixelCNN"])
def test_other_densities_begin_with_the_general_model_too(name):
    X = np.column_stack([normal_rows(), np.ones(60)])  # a column that is constant in X alone
    G = np.column_stack([wide_rows(), np.random.RandomState(0).randn(150)])
    model = getattr(skgenad, name)(**{**TINY[name], "learning_rate": 1e-12})
    ratio = ratio_of(model, random_state=0).fit(X, X_general=G)
    assert np.abs(ratio.score_samples(X)).max() < 1e-3
    assert ratio.detector_.units_.scale.all()
