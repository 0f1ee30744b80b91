"""The committed results are read by the scripts that made them, as they are."""

import importlib
import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

import skgenad
from skgenad import MPDR, PWAE

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
RESULTS = BENCHMARKS / "results"
SCRIPTS = (
    "ablations",
    "cance_tables",
    "checkpoints",
    "cifar_ood",
    "dcase",
    "density_2d",
    "discriminative",
    "early_stopping",
    "embeddings",
    "explanations",
    "false_discoveries",
    "glow_choices",
    "feature_energies",
    "glow_correlations",
    "image_features",
    "label_free",
    "mixed_tables",
    "mnist_corrupted",
    "mnist_holdout",
    "mnist_one_class",
    "mnist_ood",
    "mvtec",
    "pwae_photographs",
    "pwae_textures",
    "sensors",
    "streams",
)


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.mark.parametrize("name", SCRIPTS)
def test_rows_of_a_script_are_read(name, script):
    file = script(name).ROWS
    assert file.path == RESULTS / name / "rows.csv"
    rows = file.read()
    assert len(rows) == file.path.read_text().count("\n") - 1
    assert rows["date"].str.match(r"20\d\d-\d\d-\d\d$").all() and (rows["machine"] != "").all()


# Reports that only the run itself can write, or that no script writes.
OF_RUNS = {"glow_digits", "textures", "tuning"}


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.md")), ids=lambda path: path.stem)
def test_a_report_says_what_it_does_not_show(path, script):
    if path.stem in OF_RUNS:
        return
    notes, page = script("_small_print").NOTES, path.read_text(encoding="utf-8")
    assert path.stem in notes, "its note goes to benchmarks/_small_print.py"
    assert f"**What this does not show.** {notes[path.stem]}" in page, "write its tables again"


def test_reports_name_what_is_a_part_of_its_data_set(script):
    notes, sets = script("_small_print"), script("adbench").SETS
    assert notes._CIFAR10 in (RESULTS / "cifar_ood.md").read_text(encoding="utf-8")
    assert notes.adbench_note(sets) in (RESULTS / "adbench.md").read_text(encoding="utf-8")
    assert "could not download the others" in notes.adbench_note(sets)
    whole = pd.DataFrame({"n_train": [50_000], "seed": [3]})
    assert notes.small_print("cifar_ood", whole)[0] == "Seeds: 3."
    rows = pd.DataFrame({"n_train": [10_000] * 5, "seed": [1, 2, 3, 4, None]})
    assert notes.small_print("cifar_ood", rows)[0] == f"{notes._CIFAR10} Seeds: 1 to 4."
    paid = pd.DataFrame({"fit_seconds": [1.0, 2.0, 1234.0, None]})
    assert notes.small_print("adbench", paid)[0] == "Seconds of a fit: median 2, at most 1,234."


def test_criteria_without_labels_are_judged_by_what_choosing_by_them_gives(script):
    label_free = script("label_free")
    rows = label_free.ROWS.read()
    assert set(rows["group"]) == {label_free.CHOICE, *label_free.SETTINGS, *label_free.TRAINED}
    some = rows[(rows["group"] == "Neighbors") & (rows["dataset"] == rows["dataset"].iloc[-1])]
    k = len(some)
    some = some.assign(auroc=[0.5 + 0.1 * i for i in range(k)])
    some[[f"{label_free.CRITERIA[i]}, normal" for i in range(3)]] = [
        [i, -i, 1.0]
        for i in range(k)  # the truth, its reverse, and nothing
    ]
    judged = label_free.judgements(some)
    judged = judged[judged["where"] == "normal"].iloc[:3]
    assert judged["rho"].tolist() == pytest.approx([1, -1, 0])
    best, worst = some["auroc"].max(), some["auroc"].min()
    assert judged["chosen"].tolist() == pytest.approx([best, worst, some["auroc"].mean()])
    assert judged["default"].tolist() == [worst] * 3


def test_rows_of_the_hierarchies_are_read(script):
    hierarchies = script("hierarchies")
    rows = hierarchies._file(RESULTS / "hierarchies").read()
    assert set(rows["metric"]) == {"auroc", "test bits", "training bits"}
    shapes = ((1, 32, 32), (3, 32, 32))
    made = (hierarchies._model(s, 1, False, None, plain) for s in shapes for plain in (0, 1))
    models = {hierarchies._settings(model) for model in made}
    assert set(rows["model"]) <= models  # the cells of today's script


def test_hashes_of_scores_are_read(script):
    assert len(script("same_bits").FILE.read())


def test_steps_of_glow_on_digits_are_read(script):
    from skgenad.benchmark import ResultsFile

    columns = script("glow_digits").COLUMNS
    file = ResultsFile(RESULTS / "glow_digits.csv", key=("step",), columns=columns)
    assert file.read()["step"].is_monotonic_increasing


def test_every_section_of_the_speeds_is_read(script):
    sections = script("speed")._SECTIONS
    assert {path.stem for path in (RESULTS / "speed").glob("*.csv")} == set(sections)
    for name, section in sections.items():
        assert len(section.file(name).read())


def test_every_section_of_the_speeds_on_a_gpu_is_read(script):
    speed_gpu = script("speed_gpu")
    for path in speed_gpu.FOLDER.glob("*.csv"):
        assert len(speed_gpu._SECTIONS[path.stem].file(path.stem, speed_gpu.FOLDER).read())


def test_every_section_of_the_scales_is_read(script):
    scale = script("scale")
    assert {path.stem for path in scale.FOLDER.glob("*.csv")} == set(scale.SECTIONS)
    for name in scale.SECTIONS:
        assert len(scale._file(name).read())


def _cance_tables(script):
    for plan in script.EXPERIMENTS.values():
        yield from (make(1) for make in plan.methods.values())
    for _, settings in script._CHOICES.values():
        yield from (script._cance(1, **changes) for changes in settings)


def _pwae_textures(script):
    for method, settings in script._CHOICES.items():
        for size, changes in product(script.SIZES.values(), settings):
            yield script.detector(method, size, (3, size.side, size.side), 0, **changes)


# Script -> what makes the detectors that it fits, of every size and variant.
MADE = {
    "ablations": lambda s: (m(1) for t in s.TABLES.values() for m in t.settings.values()),
    "cance_tables": _cance_tables,
    "cifar_ood": lambda s: (s._detector(m, size, 1) for m in s.METHODS for size in SIZES),
    "density_2d": lambda s: (make(x, 0) for make, spaces in s.METHODS.values() for x in spaces),
    "embeddings": lambda s: (make(1) for make in s.OWN.values()),
    "glow_choices": lambda s: (s.detector(variant, 500, 1) for variant in s.VARIANTS),
    "feature_energies": lambda s: (s.paper(1), s.matched(1e-5, 1)),
    "glow_correlations": lambda s: [s.detector(500, 1)],
    "hierarchies": lambda s: (s._model((c, 32, 32), 1, b, 9) for c in (1, 3) for b in (0, 1)),
    "mnist_corrupted": lambda s: (s.detector(m, z, 1) for m in s.METHODS[1:] for z in s.N_TEST),
    "mnist_holdout": lambda s: (s.detector(m, size, 1) for m in s.METHODS for size in s.SIZES),
    "mnist_one_class": lambda s: (s._detector(size, 1) for size in SIZES),
    "mnist_ood": lambda s: (s.detector(m, 1, n) for n, names in s.METHODS.items() for m in names),
    "nae_trials": lambda s: (make(1) for make in s.VARIANTS.values()),
    "pwae_photographs": lambda s: (
        s.detector(m, (c, 64, 64), 1) for m in (*s.PWAES, *s.PLAIN) for c in (1, 3)
    ),
    "pwae_textures": _pwae_textures,
    "same_bits": lambda s: (case[2] for case in s.cases()),
    "tune": lambda s: s.VARIANTS.values(),
}
SIZES = ("small", "full")


@pytest.mark.parametrize("name", MADE)
def test_settings_of_a_script_are_those_of_todays_detectors(name, script):
    made = list(MADE[name](script(name)))
    assert made
    for detector in made:
        assert repr(clone(detector)) == repr(detector)


def test_plain_step_has_the_settings_of_the_one_it_is_measured_against(script):
    s, ours = script("_plain_mpdr").Settings(), script("_mpdr_step").Ours
    made = ours(torch.zeros(200, s.n_features), s.width)
    latent, visible = made.module.settings.latent, made.module.settings.visible
    assert (latent.n_steps, latent.step_size, latent.noise) == (
        s.latent_steps,
        s.latent_step_size,
        s.latent_noise,
    )
    assert (visible.n_steps, visible.noise) == (s.visible_steps, s.visible_noise)


@pytest.mark.parametrize("changed", [{}, {"max_steps": 3}, {"visible_chain__noise": 0.2}])
def test_old_settings_are_those_of_a_detector_of_today_only_if_nothing_changed(script, changed):
    convert = script("convert_results")
    defaults = json.loads(convert.OLD_DEFAULTS.read_text())
    old = json.dumps(defaults["MPDR"])
    differences = convert.unexplained(old, MPDR().set_params(**changed))
    assert set(differences) == set(changed)
    assert set(convert.unexplained(old, MPDR(energy="scalar"))) == {"energy"}


def test_renamed_settings_are_parameters_of_todays_detectors(script):
    convert = script("convert_results")
    defaults = json.loads(convert.OLD_DEFAULTS.read_text())
    for (detector, old), new in convert.RENAMED.items():
        names = {new} if isinstance(new, str) else set(new(defaults[detector][old]))
        assert names <= set(getattr(skgenad, detector)().get_params()), (detector, old)
        assert old in defaults[detector]


def _rows_of_the_changelog():
    """Detectors, old names and new names of a line of the table of what was renamed."""
    text = (BENCHMARKS.parent / "CHANGELOG.md").read_text()
    for line in re.findall(r"^\| ([A-Z][\w, ]+|all with `network`) \|(.+)\|(.+)\|$", text, re.M):
        found = [set(re.findall(r"(?<![\w\"])([a-z_]+)(?=`|=|,)", part)) for part in line[1:]]
        yield line[0], *found


def test_every_parameter_that_is_gone_is_in_the_changelog(script):
    lines = list(_rows_of_the_changelog())
    for name, old in json.loads(script("convert_results").OLD_DEFAULTS.read_text()).items():
        gone = set(old) - set(getattr(skgenad, name)._get_param_names())
        said = [names for detectors, names, _ in lines if name in detectors or "all" in detectors]
        assert gone <= set().union(*said), name


def test_every_file_of_results_is_that_of_a_script():
    known = {*SCRIPTS, "adbench", "hierarchies", "results", "scale", "speed", "speed_gpu"}
    suites = {"oddbench", "contaminated", "all_rows"}  # what test_suite_scripts.py is about
    trials = {"kernel_base", "mixtures", "mixtures_cost"}  # variants of one detector or energy
    suites |= {"committee_choice", "committee_members", "committee_cost", "thresholds", "suites"}
    assert {path.parent.name for path in RESULTS.rglob("*.csv")} - suites == known | trials


def test_error_of_principal_components_is_the_squared_distance_to_their_span(script):
    rng = np.random.RandomState(0)
    X = rng.standard_normal((50, 2)) @ np.eye(2, 6) + 1
    fitted = script("_image_baselines").PrincipalError(2, 0).fit(X)
    np.testing.assert_allclose(fitted.score_samples(X), 0, atol=1e-20)
    away = X + 3 * np.eye(6)[4]
    np.testing.assert_allclose(fitted.score_samples(away), -9)


def test_figures_of_the_page_of_series_are_those_of_the_rows(script):
    sensors = script("sensors")
    rows = sensors.ROWS.read().dropna(subset=["auroc"])
    means = rows.groupby(["collection", "width", "detector", "recording"])["auroc"].mean()
    means = means.groupby(level=[0, 1, 2]).mean()
    page = (BENCHMARKS.parent / "docs" / "guide" / "series.rst").read_text(encoding="utf-8")
    lines = re.findall(r"^(\w+), (single steps|windows of 20) +(.+)$", page, re.M)
    assert len(lines) == 6
    for detector, stretch, numbers in lines:
        width = 1 if stretch == "single steps" else 20
        found = [f"{means[name, width, detector]:.3f}" for name in sensors.COLLECTIONS]
        assert numbers.split() == found, (detector, stretch)
    trained = re.findall(r"^(Autoencoder|MPDR|NAE|Committee) +(0\.\d{3})  (0\.\d{3})$", page, re.M)
    assert len(trained) == 4
    names = {"Autoencoder": "AE", "MPDR": "MPDR-R"}
    for detector, *numbers in trained:
        name = names.get(detector, detector)
        found = [f"{means[collection, 20, name]:.3f}" for collection in ("skab", "cwru")]
        assert numbers == found, detector


def test_noise_is_on_the_training_rows_of_embeddings_alone(script):
    embeddings = script("embeddings")
    rng = np.random.default_rng(0)
    X, y = 5 + rng.standard_normal((300, 20)), np.repeat([0, 1], [270, 30])
    kinds = (*embeddings.KINDS, embeddings.EVERYWHERE)
    plain, unit, noisy, everywhere = (
        embeddings.parts_of(X, y, kind, 1, with_noise=True) for kind in kinds
    )
    np.testing.assert_allclose(np.linalg.norm(unit[0], axis=1), 1)
    np.testing.assert_allclose(plain[0] / np.linalg.norm(plain[0], axis=1)[:, None], unit[0])
    assert (noisy[0] - unit[0]).std() == pytest.approx(0.01, rel=0.05)
    np.testing.assert_array_equal(noisy[1], unit[1])
    np.testing.assert_array_equal(noisy[0], everywhere[0])
    assert (everywhere[1] - unit[1]).std() == pytest.approx(0.01, rel=0.05)
    # No row that trains is tested, and only normal ones train.
    assert not set(map(tuple, plain[0])) & set(map(tuple, plain[1]))
    assert set(map(tuple, plain[0])) <= set(map(tuple, X[:270]))


def test_lines_of_embeddings_are_means_over_sets_of_means_over_seeds(script):
    embeddings = script("embeddings")
    cells = [
        ("a", embeddings.PLAIN, 1, 0.5),
        ("a", embeddings.PLAIN, 2, 0.7),
        ("b", embeddings.PLAIN, 1, 0.8),
        ("a", embeddings.NOISY, 1, 0.7),
        ("a", embeddings.NOISY, 2, 0.7),
        ("b", embeddings.NOISY, 1, 1.0),
    ]
    rows = pd.DataFrame(cells, columns=["dataset", "rows", "seed", "auroc"])
    rows = rows.assign(detector="KNN", seconds=1.0)
    line = embeddings._lines(rows, "auroc").splitlines()[-1].strip("| ").split("|")
    assert [cell.strip() for cell in line[:5]] == ["KNN", "2", "0.700", "", "0.850"]
    assert line[6].strip().startswith("0.150 ")


def test_figures_of_the_page_of_sounds_are_those_of_the_rows(script):
    dcase = script("dcase")
    rows = dcase.ROWS.read()
    fans = rows[rows["collection"] == "fan"]
    noisy = rows[rows["collection"].str.startswith("propeller, noise")]
    reference = dcase.resampled(fans[fans["method"] == dcase.REFERENCE])
    page = (BENCHMARKS.parent / "docs" / "guide" / "sound.rst").read_text(encoding="utf-8")
    lines = re.findall(r"^([\w-]+, (?:clip means|seconds|frames))  +(0\.\d+)  +(.+)$", page, re.M)
    assert {name for name, *_ in lines} == set(fans["method"])
    for name, auc, others in lines:
        of_it = fans[fans["method"] == name]
        samples = dcase.resampled(of_it)
        less = of_it["auc"].mean() - fans.loc[fans["method"] == dcase.REFERENCE, "auc"].iloc[0]
        wanted = [dcase.bracket(samples)]
        if name != dcase.REFERENCE:
            wanted.append(f"{less:+.3f} {dcase.bracket(samples - reference)}")
        draws = noisy.loc[noisy["method"] == name, "auc"]
        if len(draws) >= 3:
            wanted.append(f"{draws.mean():.3f}")
        assert auc == f"{of_it['auc'].mean():.3f}" and re.split("  +", others) == wanted, name
    assert dcase.chosen_by_contrast(fans) == "PCA, frames"  # as the page says


def test_figures_of_the_page_of_images_are_those_of_the_rows(script):
    mnist, cifar = script("mnist_ood"), script("cifar_ood")
    rows = mnist.ROWS.read()
    rows = rows[rows["size"] == "small"]
    means = rows.groupby(["normal", "method", "anomalies"])["auroc"].mean()
    textures = cifar.ROWS.read().query("size == 'small' and anomalies == 'CUReT'")
    textures = textures.groupby("method")["auroc"].mean()
    page = (BENCHMARKS.parent / "docs" / "guide" / "images.rst").read_text(encoding="utf-8")
    digits, others = re.findall(r"^=.*\nAUROC  .*\n=.*\n((?:.+\n)+?)=", page, re.M)
    for line in digits.splitlines():
        method, *numbers, seeds = re.split(r"  +", line.strip())
        own = means["MNIST", method]
        sets = ["Omniglot", "KMNIST", "notMNIST", "Fashion"]
        assert numbers == [f"{own[name]:.3f}" for name in sets], method
        of_it = rows[(rows["normal"] == "MNIST") & (rows["method"] == method)]
        assert seeds == mnist.span(of_it.groupby("anomalies")["seed"].nunique()[sets]), method
    for line in others.splitlines():
        method, fashion, texture = line[:19].strip(), line[21:36].strip(), line[38:].strip()
        assert fashion == (f"{means['Fashion', method, 'MNIST']:.3f}" if fashion else "")
        assert texture == (f"{textures[method]:.3f}" if texture else "")
        assert fashion or texture


def test_figures_of_embeddings_in_the_guide_are_those_of_the_rows(script):
    embeddings = script("embeddings")
    rows = embeddings.finished(embeddings.ROWS.read())
    page = (BENCHMARKS.parent / "docs" / "guide" / "results.rst").read_text(encoding="utf-8")
    section = page.split("Embeddings\n----------")[1].split("\nCosts\n")[0]
    shown = re.findall(r"^([\w-]+) +(0\.\d{3}) +(0\.\d{3}) +(0\.\d{3})  (.+)$", section, re.M)
    assert len(shown) >= 7
    lines = embeddings._lines(rows[rows["detector"].isin(embeddings.QUICK)], "auroc").splitlines()
    found = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines[2:]]
    cells = {line[0]: line[2:7] for line in found}
    assert {name for name, *_ in shown} == set(cells)
    for name, *means, differences in shown:
        assert means == cells[name][:3], name
        assert re.split(r" {2,}", differences.strip().replace("+", "")) == cells[name][3:], name


def test_figures_of_the_page_of_photographs_are_those_of_the_rows(script):
    mvtec = script("mvtec")
    rows = mvtec.ROWS.read()
    rows = rows[rows["features"] == "coarse"]
    page = (BENCHMARKS.parent / "docs" / "guide" / "photographs.rst").read_text(encoding="utf-8")
    line = r"^([A-Z][\w, -]+?|nearest of 12,000)  +((?:\d\.\d{3} \d\.\d{3}  ){3})(\d)$"
    for title, unified in (("one for each", False), ("one for all", True)):
        table = page.partition(f"\n{title} ")[2].partition("\n\n")[0]
        some = rows[(rows["trained"] == "unified") == unified]
        found = re.findall(line, table, re.M)
        assert len(found) >= 5
        for method, cells, seeds in found:
            of_it = some[some["method"] == method]
            assert of_it["seed"].nunique() == int(seeds)
            means = of_it.groupby("category")[["image_auroc", "pixel_auroc"]].mean()
            wanted = [f"{value:.3f}" for name in mvtec.UNIFIED for value in means.loc[name]]
            assert cells.split() == wanted, (title, method)


def test_figures_of_pwae_on_photographs_are_those_of_the_rows(script):
    photographs = script("pwae_photographs")
    rows = photographs.ROWS.read()
    page = (BENCHMARKS.parent / "docs" / "guide" / "pwae.rst").read_text(encoding="utf-8")
    section = page.split("\nOn photographs\n")[1].split("\nWhat the public code does")[0]
    found = re.findall(
        r"^(\S.+?)  +((?:(?:[\d.]{5,6}|-) ?)+(?:  .+)?)  (\d to \d|\d)$", section, re.M
    )
    sets = ("bottle", "screw, levelled", photographs.STANDARDISED, "magnetic_tile")
    some = rows[rows["images"].isin(sets)].dropna(subset=["error_good"])
    assert {method for method, *_ in found} == set(some["method"])
    for method, cells, seeds in found:
        of_method = some[some["method"] == method]
        numbers = set()
        for name, cell in zip(sets, re.split(r"  +", cells.strip()), strict=True):
            of_it = of_method[of_method["images"] == name]
            means = of_it.groupby("score")["auroc"].mean().reindex(["max", "sum", "pixels"])
            error = of_it.groupby("seed")["error_good"].first().mean()
            wanted = " ".join("-" if np.isnan(v) else f"{v:.3f}" for v in means)
            assert cell == (f"{wanted} {error:.4f}" if len(of_it) else "-"), (method, name)
            numbers |= {of_it["seed"].nunique()} - {0}
        assert seeds == " to ".join(map(str, sorted(numbers))), method


def test_scores_of_maps_have_the_order_of_the_errors_of_the_package(script):
    photographs = script("pwae_photographs")
    X = np.random.RandomState(0).rand(30, 1, 15, 15)
    quick = {"network": (8,), "decoder_channels": 8, "max_steps": 5, "random_state": 0}
    detector = PWAE(image_shape=(1, 15, 15), combine="pixels", **quick).fit(X)
    maps = detector.anomaly_map(X)
    scores = photographs.of_maps(maps)
    order = np.argsort(detector.anomaly_score(X))
    np.testing.assert_array_equal(np.argsort(scores["pixels"]), order)
    np.testing.assert_allclose(scores["image"] ** 2, maps.mean(axis=(1, 2)))
    np.testing.assert_allclose(scores["pixels .1 %"] ** 2, maps.max(axis=(1, 2)))
    assert len(photographs.PWAES) + len(photographs.PLAIN) + 4 == len(photographs.METHODS)


def test_places_and_references_of_photographs_are_what_they_are_said_to_be(script):
    mvtec = script("mvtec")
    rng = np.random.default_rng(0)
    train, test = rng.standard_normal((2, 40, 3, 4, 4)).astype(np.float32)
    gaussian, nearest = mvtec.REFERENCES
    energies = mvtec.reference_energies(gaussian, train, test, 1)
    place = train[:, :, 2, 1]
    covariance = np.cov(place.T) + 0.01 * np.eye(3)
    away = test[:, :, 2, 1] - place.mean(axis=0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away))
    np.testing.assert_allclose(energies[:, 2, 1], expected, rtol=1e-3)
    itself = mvtec.reference_energies(nearest, train, train, 1)
    np.testing.assert_allclose(itself, 0, atol=2e-3)
    assert mvtec.patch_detector("PaDiM, each place", None, 1).positions == "separate"
    assert mvtec.patch_detector("Neighbors", None, 1).positions == "shared"


def test_samplers_on_eight_gaussians_are_in_the_order_that_the_guide_gives(script):
    density_2d = script("density_2d")
    rows = density_2d.ROWS.read()
    rows = rows[rows["variance"] == density_2d.AUTHORS]
    medians = rows.groupby(["method", "space"])[["l1", "hole", "share_error"]].median()
    omi, cd, pcd = (medians.loc[f"NAE-{k}, authors' chains", "R^3"] for k in ("OMI", "CD", "PCD"))
    assert omi["l1"] < pcd["l1"] < cd["l1"] and omi["hole"] < pcd["hole"] < cd["hole"]
    omi, cd, pcd = (medians.loc[f"NAE-{k}", "R^3"] for k in ("OMI", "CD", "PCD"))
    assert cd["l1"] < omi["l1"] and pcd["l1"] < omi["l1"]
    assert cd["share_error"] < omi["share_error"]
    assert medians.loc["MPDR-R", "R^3"]["l1"] < medians.loc["MPDR-S", "S^1"]["l1"]


def test_hole_and_shares_of_a_density_are_what_they_are_said_to_be(script):
    density_2d = script("density_2d")
    true = density_2d.true_density()
    assert true.sum() * density_2d.CELL == pytest.approx(1)
    assert density_2d.share_error(true) < 2e-4
    # Twice as much in one mode: it has two ninths and each of the others one.
    x, y = density_2d.GRID.T
    more = true * (1 + (np.abs(np.arctan2(y, x)) < np.pi / 8))
    assert density_2d.share_error(more) == pytest.approx(2 / 9 - 1 / 8, abs=2e-4)


def test_ablations_judge_means_over_squares_and_change_what_they_say(script):
    ablations = script("ablations")
    images = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    halved = ablations.halved(images)
    np.testing.assert_allclose(halved[0, 0] * 255, [[2.5, 4.5], [10.5, 12.5]])

    class Bright(skgenad.Mahalanobis):
        def fit(self, X, y=None):
            return self

        def anomaly_score(self, X):
            return X.mean(axis=(1, 2, 3))

    dark, bright = np.full((6, 1, 2, 2), 0.2), np.full((3, 1, 2, 2), 0.9)
    data = ablations.Data(dark, dark, {"bright": bright, "dark": dark})
    rows = ablations.judged(Bright(), data)
    assert [row["anomalies"] for row in rows] == ["bright", "dark"]
    assert [row["auroc"] for row in rows] == [1, 0.5] and rows[0]["aupr"] == 1
    for name, chosen in ablations.TABLES.items():
        made = [repr(make(1)) for make in chosen.settings.values()]
        assert len(set(made)) == len(made), name  # no two settings are one
        assert set(chosen.paper) <= set(chosen.settings), name


def test_ablations_on_the_page_are_those_of_the_rows(script):
    ablations = script("ablations")
    page = ablations.ROWS.path.parent.with_suffix(".md").read_text(encoding="utf-8")
    rows = ablations.ROWS.read()
    assert set(rows["table"]) <= set(ablations.TABLES)
    for name, chosen in ablations.TABLES.items():
        of_it = rows[rows["table"] == name]
        assert set(of_it["setting"]) <= set(chosen.settings)
        assert (ablations._lines(of_it, chosen) in page) == (len(of_it) > 0)


def test_figures_of_energies_of_features_in_the_guide_are_those_of_the_rows(script):
    features = script("feature_energies")
    rows = features.finished(features.ROWS.read())
    page = (BENCHMARKS.parent / "docs" / "guide" / "mpdr.rst").read_text(encoding="utf-8")
    sets = r"^(matched|preset), (sets of the rule|other sets)"
    line = rf"{sets} +(\d+) +(\d) +([\d.]+) +([\d.]+) +([\d.]+)  (.+)$"
    shown = re.findall(line, page, re.M)
    assert len(shown) >= 3
    for variant, sets, *cells, gain in shown:
        own = rows[rows["variant"] == {"preset": "paper"}.get(variant, variant)]
        own = own[own["dataset"].isin(features.CHOSEN) == (sets == "sets of the rule")]
        means = own.groupby(["step", "dataset"])[list(features.SCORES)].mean()
        means = means.groupby("step").mean()
        start, end = means.loc[0], means.loc[features.N_STEPS]
        values = (start["energy"], end["energy"], end["combined"])
        counts = (own["dataset"].nunique(), own["seed"].nunique())
        assert cells == [*map(str, counts), *(f"{value:.3f}" for value in values)]
        gained = features.gains(own, "energy")[features.N_STEPS]
        assert gain.strip().replace("+", "") == features.interval(gained)


def test_what_is_said_of_the_ablations_holds_in_the_rows(script):
    ablations = script("ablations")
    rows = ablations.ROWS.read()
    rows = rows[rows["seed"] == 1]
    aupr = {key: group.set_index("anomalies") for key, group in rows.groupby(["table", "setting"])}

    def above(table, better, worse, sets=(ablations.NINE, *ablations.SETS)):
        pairs = [(aupr[table, x].loc[list(sets), "aupr"]).to_numpy() for x in (better, worse)]
        return (pairs[0] > pairs[1]).all()

    some = ("Omniglot", "Constant")
    assert above("pretraining", "300", "300, autoencoder")
    assert above("pretraining", "300", "1000, autoencoder", some)
    assert above("sampling", "10 steps, replay, sphere", "10 steps, replay, Euclidean")
    for n in ("16", "32", "64"):
        assert above("latent dimension", n, f"{n}, autoencoder")
    behind = (ablations.NINE, "KMNIST", "Omniglot", "Fashion")
    assert above("latent dimension", "8, autoencoder", "8", behind)
    for more, less in (("0.1", "0.01"), ("0.2", "0.1"), ("0.3", "0.2")):
        assert above("sigma", more, less, (ablations.NINE, "KMNIST", "Omniglot", "Fashion"))
    for more, less in (("32", "16"), ("64", "32"), ("128", "64")):
        assert above("manifold", more, less, ["Omniglot"])
        assert above("manifold", less, more, ["Fashion"])
    assert above("gamma", "0.0001", "0.01", (ablations.NINE, "Omniglot"))
    page = (BENCHMARKS.parent / "docs" / "guide" / "results.rst").read_text(encoding="utf-8")
    cells = [
        *(("sampling", "10 steps, replay, sphere"), ("pretraining", "300, autoencoder")),
        *(("sampling", "10 steps, replay, Euclidean"), ("sampling", "0 steps, no replay, sphere")),
        *(("sigma", "0.01"), ("sigma", "0.3"), ("gamma", "0.01"), ("gamma", "0.0001")),
    ]
    entry = page.partition("(``ablations.md``")[0].rpartition("MPDR and NAE with one")[2]
    entry += page.partition("(``ablations.md``")[2].partition("the baselines of NAE")[0]
    found = [f"{aupr[cell].loc['Omniglot', 'aupr']:.2f}".lstrip("0") for cell in cells]
    assert [x for x in re.findall(r"(?<= )\.\d\d(?=[,; )\n])", entry) if x in found] == found
