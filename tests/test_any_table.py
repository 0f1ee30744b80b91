"""Any detector with any table: finite scores that hold together, or a refusal in our words.

A few examples for each detector, the same everywhere; by ``pytest -m slow`` 10,000 in all, other
ones each time. ``SKGENAD_FUZZ`` is the number of them, ``SKGENAD_FUZZ_SEED`` a seed that was
printed.
"""

import os
import random
import tempfile
import traceback
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from scipy.linalg import LinAlgWarning
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

import skgenad
from skgenad.compat import DiscriminativeRatio, ScoreDetector

from ._settings import VARIANTS, over_variants, takes, tiny

# Adapters, whose estimators are of others.
ADAPTERS = {"DiscriminativeRatio": DiscriminativeRatio, "ScoreDetector": ScoreDetector}
BESIDES = ("Committee", "LikelihoodRatio", *ADAPTERS)
SEED = int(os.environ.get("SKGENAD_FUZZ_SEED", random.SystemRandom().randrange(2**32)))
LONG = int(os.environ.get("SKGENAD_FUZZ", 10_000))

# ---- tables ---------------------------------------------------------------------------------

COLUMNS = {
    "normal": lambda rng, n: rng.randn(n),
    "units": lambda rng, n: 1e6 + 1e-3 * rng.randn(n),
    "heavy": lambda rng, n: rng.standard_cauchy(n),
    "lognormal": lambda rng, n: np.exp(5 * rng.randn(n)),
    "counts": lambda rng, n: rng.poisson(0.5, n),
    "binary": lambda rng, n: rng.randint(2, size=n),
    "bytes": lambda rng, n: rng.randint(256, size=n),
    "zeros": lambda rng, n: np.zeros(n),
    "minus zero": lambda rng, n: np.where(rng.rand(n) < 0.5, -0.0, 0.0),
    "constant": lambda rng, n: np.full(n, 7.3),
    "large constant": lambda rng, n: np.full(n, -1e12),
    "nearly constant": lambda rng, n: 1 + np.finfo(float).eps * rng.randint(3, size=n),
    "rare": lambda rng, n: np.arange(n) == n // 2,
    "sentinel": lambda rng, n: np.where(np.arange(n) == n // 3, -9999.0, rng.randn(n)),
    "ramp": lambda rng, n: np.arange(n),
    "tiny": lambda rng, n: 5e-324 * rng.randint(4, size=n),
    "small": lambda rng, n: 1e-200 * rng.randn(n),
    "large": lambda rng, n: 1e20 * rng.randn(n),
    "huge": lambda rng, n: 1e300 * rng.randn(n),
    "largest": lambda rng, n: np.finfo(float).max * rng.choice([-1, 1], n),
    "both": lambda rng, n: 10.0 ** rng.randint(-300, 300, size=n),
}
GAPS = {
    "nan": lambda rng, n: np.where(np.arange(n) == n // 2, np.nan, rng.randn(n)),
    "all nan": lambda rng, n: np.full(n, np.nan),
    "inf": lambda rng, n: np.where(np.arange(n) == 0, np.inf, rng.randn(n)),
}
TYPES = ["<f8", "<f8", "<f8", ">f8", "<f4", "<f2", "<i8", "|u1", "|b1", "O", "longdouble"]


def strided(X):
    return np.repeat(X, 2, axis=1)[:, ::2]


def frozen(X):
    X = X.copy()
    X.setflags(write=False)
    return X


def frame(X):
    return pd.DataFrame(X, columns=[f"column {j}" for j in range(X.shape[1])])


def nullable(X):
    table = frame(X)
    return table.astype({"b": "boolean", "i": "Int64", "u": "UInt8"}.get(X.dtype.kind, "Float64"))


def unaligned(X):
    """Rows that begin in the middle of a number."""
    raw = np.empty(X.nbytes + 1, dtype=np.uint8)[1:]
    made = raw.view(X.dtype).reshape(X.shape) if X.dtype.kind != "O" else X
    made[...] = X
    return made


def names_of_kinds(X):
    return pd.DataFrame(X, columns=range(X.shape[1]), index=[f"row {i}" for i in range(len(X))])


CONTAINERS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "strided": strided,
    "reversed": lambda X: X[::-1].copy()[::-1],
    "frozen": frozen,
    "unaligned": unaligned,
    "lists": lambda X: X.tolist(),
    "rows": list,
    "frame": frame,
    "numbered frame": names_of_kinds,
    "nullable": nullable,
    "no mask": np.ma.masked_array,
    "one row often": lambda X: np.broadcast_to(X[:1], X.shape),
}
LABELS = {
    "none": lambda rng, n: None,
    "zeros": lambda rng, n: np.zeros(n, dtype=int),
    "normal and anomalies": lambda rng, n: rng.choice([0, 1], n),
    "signs": lambda rng, n: rng.choice([-1, 1], n),
    "text": lambda rng, n: rng.choice(["a", "b"], n),
    "booleans": lambda rng, n: rng.rand(n) < 0.5,
    "each its own": lambda rng, n: np.arange(n),
    "gaps": lambda rng, n: np.where(rng.rand(n) < 0.2, np.nan, 1.0),
}
# What parameters may be, for those that a detector has.
SETTINGS = {
    "contamination": ["auto", 0.0, 1e-9, 0.1, 0.5],
    "calibration_fraction": ["auto", 0.0, 0.3, 0.9],
    "standardize": ["auto", True, False, "mixed"],
    "batch_size": [1, 2, 7, 500],
    "use_labels": [False, True],
    "max_steps": [1, 5],
    "latent_dim": [1, 3],
    "n_neighbors": [1, 1000],
    "max_anchors": [1, 1000],
    "n_components": [1, 5],
    "shrinkage": [0.0, "auto", 1.0],
}


@st.composite
def cases(draw):
    """Draw what a table is made of, small numbers first."""
    kinds = st.sampled_from(list(COLUMNS))
    few, many = st.lists(kinds, min_size=1, max_size=6), st.lists(kinds, min_size=7, max_size=25)
    columns = draw(few | many)
    gaps = draw(st.lists(st.sampled_from(list(GAPS)), max_size=1)) if draw(_rarely) else []
    chosen = draw(st.lists(st.sampled_from(list(SETTINGS)), max_size=3, unique=True))
    return {
        "n": draw(st.integers(2, 12) | st.integers(13, 60) | st.just(1)),
        "columns": columns + gaps,
        "type": draw(st.sampled_from(TYPES)),
        "container": draw(st.sampled_from(list(CONTAINERS))),
        "labels": draw(st.sampled_from(list(LABELS))) if draw(_rarely) else "none",
        "settings": {name: draw(st.sampled_from(SETTINGS[name])) for name in chosen},
        "seed": draw(st.integers(0, 999)),
    }


_rarely = st.sampled_from([False, False, False, True])


def table_of(case, n=None, seed=0):
    """Make rows of a case; as many others with another seed."""
    n, rng = n or case["n"], np.random.RandomState(case["seed"] + 1000 * seed)
    columns = [(COLUMNS | GAPS)[kind](rng, n) for kind in case["columns"]]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # 1e300 as an integer
        X = np.array(columns, dtype=float).reshape(len(columns), n).T.astype(case["type"])
    return X


# ---- what must hold -------------------------------------------------------------------------


def is_ours(error):
    """Tell whether an error was made for the user: raised here, or by scikit-learn's checks."""
    if not isinstance(error, ValueError | TypeError):
        return False
    place = traceback.extract_tb(error.__traceback__)[-1].filename.replace(os.sep, "/")
    return "/skgenad/" in place or place.endswith(("sklearn/utils/validation.py", "_validation.py"))


def attempt(call, *arguments):
    """Call; return the result, or None for a refusal in our words."""
    try:
        return call(*arguments)
    except Exception as error:
        if is_ours(error):
            return None
        raise


def finite_scores(detector, rows, n):
    """Check all that a detector says of rows; None if it refuses them."""
    scores = attempt(detector.score_samples, rows)
    if scores is None:
        return None
    assert scores.shape == (n,) and scores.dtype == np.float64 and np.isfinite(scores).all()
    decisions, labels = detector.decision_function(rows), detector.predict(rows)
    np.testing.assert_array_equal(decisions, scores - detector.offset_)
    np.testing.assert_array_equal(labels, np.where(decisions < 0, -1, 1))
    np.testing.assert_array_equal(detector.anomaly_score(rows), -scores)
    if getattr(detector, "calibration_scores_", None) is not None:
        p_values = detector.p_value(rows)
        assert ((p_values > 0) & (p_values <= 1)).all()
    return scores


def check(name, extra, case):
    kind = ADAPTERS.get(name) or getattr(skgenad, name)
    parameters = {k: v for k, v in case["settings"].items() if takes(kind, k)}
    detector = tiny(kind, **{**extra, **parameters})
    X, rng = table_of(case), np.random.RandomState(case["seed"])
    rows = CONTAINERS[case["container"]](X)
    y = LABELS[case["labels"]](rng, len(X))
    fit = [rows] if y is None else [rows, y]
    if attempt(detector.fit, *fit) is None:
        with pytest.raises(NotFittedError):
            check_is_fitted(detector)
        # What is a table of numbers is not refused for what it is.
        plain = not parameters and not extra and y is None and len(X) > 2 and X.shape[1] > 1
        with np.errstate(all="ignore"):
            fits = X.astype(np.float64).size and (np.abs(X.astype(np.float64)) < 1e30).all()
        assert not (plain and fits), "a table that should do"
        return
    assert not np.isnan(detector.offset_)
    scores = finite_scores(detector, rows, len(X))
    assert scores is not None, "the rows of the fit are refused"
    one_by_one = [detector.score_samples(_part(rows, i, i + 1))[0] for i in range(min(len(X), 2))]
    np.testing.assert_array_equal(one_by_one, scores[:2])
    halves = [_part(rows, 0, len(X) // 2), _part(rows, len(X) // 2, len(X))]
    found = [detector.score_samples(half) for half in halves if len(half)]
    np.testing.assert_array_equal(np.concatenate(found), scores)
    other = CONTAINERS[case["container"]](table_of(case, n=5, seed=1))
    others = finite_scores(detector, other, 5)
    with tempfile.TemporaryDirectory() as folder:
        skgenad.save(detector, Path(folder) / "file")
        loaded = skgenad.load(Path(folder) / "file")
    np.testing.assert_array_equal(loaded.score_samples(rows), scores)
    assert loaded.offset_ == detector.offset_
    if others is not None:
        np.testing.assert_array_equal(loaded.score_samples(other), others)
        if hasattr(detector, "partial_fit") and attempt(detector.partial_fit, other) is not None:
            finite_scores(detector, rows, len(X))


def _part(rows, start, stop):
    return rows.iloc[start:stop] if isinstance(rows, pd.DataFrame) else rows[start:stop]


def run(name, extra, n_examples, number):
    @seed(number)
    @settings(
        max_examples=n_examples,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases())
    def example(case):
        with warnings.catch_warnings():
            # Small and odd tables are warned of, in words; numpy has nothing to say.
            warnings.simplefilter("ignore")
            if name not in ADAPTERS:
                warnings.simplefilter("error", RuntimeWarning)
            warnings.simplefilter("ignore", LinAlgWarning)
            check(name, extra, case)

    example()


@pytest.mark.parametrize("name", [*(name for name, extra in VARIANTS if not extra), *BESIDES])
def test_any_table_is_scored_or_refused_in_words(name):
    run(name, {}, 3, zlib.crc32(name.encode()))


@pytest.mark.slow
@over_variants(*BESIDES)
def test_any_table_is_scored_or_refused_in_words_for_long(name, extra):
    print(f"SKGENAD_FUZZ_SEED={SEED}")
    run(name, extra, -(-LONG // (len(VARIANTS) + len(BESIDES))), SEED)
