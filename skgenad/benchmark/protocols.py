"""How a labelled data set becomes training rows and test rows.

Two protocols are compared everywhere. ``adbench`` is what the papers report: it resamples small
sets to 1,000 rows *before* it splits them, so copies of training rows sit among the test rows and
detectors that memorise are flattered. ``clean`` is the same without that step.

With the same seed the splits of ``adbench`` are those of ADBench's own code, row for row: it draws
from one Mersenne Twister in the same order.

Data sets that come with a split of their own have a third one, ``fixed``: `make_fixed_split`.

`split_rows` has the splits of other papers, which neither resample nor cut nor scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils import check_array, check_consistent_length, check_X_y, column_or_1d

from skgenad._warn import warn

MIN_ROWS = 1_000
MAX_ROWS = 10_000
TEST_SHARE = 0.3
PROTOCOLS = ("adbench", "clean")
FIXED = "fixed"
ROW_PROTOCOLS = ("dagmm", "goad", "goad-first", "drocc")


@dataclass(frozen=True)
class Split:
    """Training and test rows of one data set under one protocol and seed.

    Attributes
    ----------
    X_train : ndarray of shape (n_train, n_features), float64
        Training rows, scaled. All are normal unless anomalies were left in on purpose.
    X_test : ndarray of shape (n_test, n_features), float64
        Test rows, scaled with what was learned on the training part; may leave [0, 1].
    y_test : ndarray of shape (n_test,), int
        1 for anomalies, 0 for normal rows.
    train_index, test_index : ndarray of int
        Positions of these rows in the data set that was given; where that has training and test
        rows apart, each in its own part.
    n_train_anomalies : int
        How many of the training rows are anomalies.
    note : str
        What did not go as asked (fewer anomalies than `contaminate` wants) or had to be filled in,
        else empty.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad.benchmark.protocols import make_split
    >>> X = np.arange(40.0).reshape(20, 2)
    >>> split = make_split(X, np.arange(20) % 5 == 0, protocol="clean", seed=1)
    >>> split.X_train.shape, split.X_test.shape, split.n_train_anomalies
    ((11, 2), (6, 2), 0)
    """

    X_train: NDArray[np.float64]
    X_test: NDArray[np.float64]
    y_test: NDArray[np.int64]
    train_index: NDArray[np.int64]
    test_index: NDArray[np.int64]
    n_train_anomalies: int
    note: str = ""


def make_split(
    X: ArrayLike,
    y: ArrayLike,
    *,
    protocol: str = "adbench",
    contaminate: float = 0.0,
    seed: int = 1,
) -> Split:
    """Split a labelled data set into training and test rows as a protocol says.

    Both protocols cut sets of more than 10,000 rows to 10,000, keep 30 % of the rows for testing
    (stratified), scale every column to [0, 1] over the 70 % training part, and then drop the
    anomalies from training. ``"adbench"`` first resamples sets of fewer than 1,000 rows, with
    replacement, to 1,000. As in ADBench the scaling is learned before the anomalies are dropped.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows; must be finite.
    y : array-like of shape (n_samples,)
        1 (or True) for anomalies, 0 for normal rows.
    protocol : {"adbench", "clean"}, default="adbench"
        With or without the resampling of small sets.
    contaminate : float in [0, 0.5], default=0.0
        Share of the training rows that shall be anomalies. As many as the training part holds are
        left in; when that is fewer than asked, a warning says so and `Split.note` keeps it.
    seed : int in [0, 2**32 - 1], default=1
        The split is a function of the data, the protocol, `contaminate` and this number alone.

    Returns
    -------
    split : Split
        Arrays, the positions of their rows in `X`, and how many anomalies are in training.

    Raises
    ------
    ValueError
        If `protocol` is unknown, `contaminate` is out of range, labels are not 0 and 1, or a
        class has fewer than two rows, so that it cannot be in both parts.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad.benchmark import make_split
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(300, 3)), np.repeat([0, 1], [270, 30])
    >>> make_split(X, y, protocol="adbench").X_test.shape
    (300, 3)
    >>> make_split(X, y, protocol="clean").X_test.shape
    (90, 3)
    >>> make_split(X, y, protocol="clean", contaminate=0.05).n_train_anomalies
    10
    """
    _check_options(protocol, contaminate)
    rows_given, labels_given = check_X_y(X, y, dtype=np.float64)
    return _split(rows_given, _check_labels(labels_given), protocol, contaminate, seed)


def make_fixed_split(
    train: ArrayLike, test: ArrayLike, test_labels: ArrayLike, *, seed: int = 1
) -> Split:
    """Make a split of training and test rows that come apart, as those of OddBench do.

    This is the protocol ``"fixed"``. At most 10,000 training rows are used, chosen at random
    without replacement when there are more, and all test rows. Values that are not finite are
    replaced by the median of the finite values of their column among these training rows (0 if
    there is none), in training and test rows, and `Split.note` says how many there were. Then every
    column is centred and divided by its standard deviation among these training rows; columns that
    are constant there are only centred.

    Parameters
    ----------
    train : array-like of shape (n_train, n_features)
        Normal rows.
    test : array-like of shape (n_test, n_features)
        Rows to score.
    test_labels : array-like of shape (n_test,)
        1 (or True) for anomalies, 0 for normal rows; both kinds must be there.
    seed : int in [0, 2**32 - 1], default=1
        Chooses the training rows, where there are more than 10,000; else it has no effect, as the
        split is part of the data.

    Returns
    -------
    split : Split
        Arrays, and the positions of their rows in `train` and in `test`.

    Raises
    ------
    ValueError
        If the arrays do not belong together, there are fewer than two training rows, or the labels
        are not 0 and 1 or all the same.

    See Also
    --------
    make_split : The protocols of data sets that are to be split.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad.benchmark import make_fixed_split
    >>> train, test = [[1.0, 5.0], [3.0, np.inf]], [[2.0, 5.0], [4.0, np.nan]]
    >>> split = make_fixed_split(train, test, [0, 1])
    >>> split.X_train.tolist(), split.X_test.tolist()
    ([[-1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [2.0, 0.0]])
    >>> split.note
    '2 values that are not finite became the median of their training column'
    """
    read = {"dtype": np.float64, "ensure_all_finite": False}
    rows = check_array(train, ensure_min_samples=2, input_name="train", **read)
    X_test = check_array(test, input_name="test", **read)
    labels = _check_labels(column_or_1d(test_labels))
    check_consistent_length(X_test, labels)
    _check_fixed(rows, X_test, labels)
    kept = np.arange(len(rows))
    if len(rows) > MAX_ROWS:
        kept = np.sort(np.random.default_rng(seed).choice(kept, MAX_ROWS, replace=False))
    (X_train, X_test), n_filled = _fill(rows[kept], X_test)
    scaler = StandardScaler().fit(X_train)
    return Split(
        X_train=scaler.transform(X_train),
        X_test=scaler.transform(X_test),
        y_test=labels,
        train_index=kept,
        test_index=np.arange(len(labels)),
        n_train_anomalies=0,
        note=f"{n_filled} values that are not finite became the median of their training column"
        if n_filled
        else "",
    )


def split_rows(
    y: ArrayLike, protocol: str, *, contaminate: float = 0.0, seed: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the rows of a labelled data set as the papers on tabular data do.

    These are the protocols behind tables of F1 scores (`skgenad.metrics.f1_at_contamination`). The
    share of anomalies among the test rows differs between them, and F1 with it: compare figures of
    one protocol only. Nothing is scaled.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        1 (or True) for anomalies, 0 for normal rows.
    protocol : {"dagmm", "goad", "goad-first", "drocc"}
        ``"dagmm"``: a random half of all rows trains, without its anomalies, and the other half
        tests (KDDCUP99). ``"goad"``: a random half of the normal rows trains, the other half and
        all anomalies test (Thyroid, Arrhythmia), as GOAD's paper says. ``"goad-first"``: the same,
        but the half that trains is the first one in the order of the file, as in GOAD's public
        code. ``"drocc"``: as many random normal rows as there are anomalies test together with
        these, all other normal rows train (Abalone). Halves of odd numbers are rounded down for
        training.
    contaminate : float in [0, 0.5], default=0.0
        Share of the training rows that shall be anomalies, for ``"dagmm"`` alone, where the
        training half has some. As many as there are stay in when more are asked for, with a
        warning.
    seed : int in [0, 2**32 - 1], default=1
        The split is a function of the labels, the protocol, `contaminate` and this number alone,
        with ``"goad-first"`` all but the order of its rows of the labels. The test rows do not
        depend on `contaminate`.

    Returns
    -------
    train_index : ndarray of int
        Positions of the training rows, in random order.
    test_index : ndarray of int
        Positions of the test rows, in random order.

    Raises
    ------
    ValueError
        If `protocol` is unknown, `contaminate` is out of range or has no meaning for the protocol,
        labels are not 0 and 1, or there are too few rows: no normal row would train, or the test
        rows would not be of both kinds.

    See Also
    --------
    make_split : The protocols of the benchmark, with resampling and scaling.

    References
    ----------
    B. Zong et al. Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly Detection. ICLR
    2018.

    L. Bergman, Y. Hoshen. Classification-Based Anomaly Detection for General Data. ICLR 2020.
    https://arxiv.org/abs/2005.02359

    S. Goyal et al. DROCC: Deep Robust One-Class Classification. ICML 2020.
    https://arxiv.org/abs/2002.12718

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad.benchmark import split_rows
    >>> y = np.repeat([0, 1], [100, 10])
    >>> for protocol in ("dagmm", "goad", "goad-first", "drocc"):
    ...     train, test = split_rows(y, protocol)
    ...     print(protocol, len(train), np.bincount(y[test]), train.max())
    dagmm 49 [51  4] 98
    goad 50 [50 10] 98
    goad-first 50 [50 10] 49
    drocc 90 [10 10] 99
    """
    if protocol not in ROW_PROTOCOLS:
        known = ", ".join(ROW_PROTOCOLS)
        raise ValueError(f"unknown protocol {protocol!r}; choose one of {known}")
    _check_share(contaminate)
    if contaminate and protocol != "dagmm":
        raise ValueError(
            f"contaminate={contaminate:g} has no meaning for protocol {protocol!r}, which tests "
            "all anomalies: use protocol='dagmm' or contaminate=0"
        )
    labels = _check_labels(column_or_1d(y))
    rng = np.random.RandomState(seed)
    order = rng.permutation(len(labels))
    if protocol == "dagmm":
        half = order[: len(order) // 2]
        test = order[len(half) :]
        train, _, note = _drop_anomalies(half, labels[half], contaminate, rng)
        if note:
            warn(note)
    else:
        normal, anomalies = order[labels[order] == 0], order[labels[order] == 1]
        n_train = len(normal) - len(anomalies) if protocol == "drocc" else len(normal) // 2
        if protocol == "goad-first":
            # Stable: rows of either half keep their random order.
            middle = np.partition(normal, n_train)[n_train] if len(normal) else 0
            normal = normal[np.argsort(normal >= middle, kind="stable")]
        train = normal[: max(n_train, 0)]
        test = rng.permutation(np.concatenate([normal[len(train) :], anomalies]))
    _check_parts(labels, train, test, protocol)
    return train, test


def _check_fixed(
    train: NDArray[np.float64], test: NDArray[np.float64], labels: NDArray[np.int64]
) -> None:
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"train has {train.shape[1]} columns and test has {test.shape[1]}; both must have the "
            "same"
        )
    normal, anomalies = np.bincount(labels, minlength=2)
    if not (normal and anomalies):
        raise ValueError(
            f"test_labels has {normal} normal row(s) and {anomalies} anomalies; each must be 1 or "
            "more for a score"
        )


def _fill(
    train: NDArray[np.float64], test: NDArray[np.float64]
) -> tuple[list[NDArray[np.float64]], int]:
    """Return both with finite values alone, and how many had to be put in."""
    finite = np.isfinite(train)
    if finite.all() and np.isfinite(test).all():
        return [train, test], 0
    columns = zip(train.T, finite.T, strict=True)
    medians = np.array([np.median(column[here]) if here.any() else 0 for column, here in columns])
    parts = [np.where(np.isfinite(part), part, medians) for part in (train, test)]
    return parts, int(sum((~np.isfinite(part)).sum() for part in (train, test)))


def _check_parts(
    y: NDArray[np.int64], train: NDArray[np.int64], test: NDArray[np.int64], protocol: str
) -> None:
    n_train_normal = int((y[train] == 0).sum())
    test_normal, test_anomalies = np.bincount(y[test], minlength=2)
    if not (n_train_normal and test_normal and test_anomalies):
        raise ValueError(
            f"protocol {protocol!r} leaves {n_train_normal} normal row(s) to train on and tests "
            f"{test_normal} normal row(s) and {test_anomalies} anomalies; each must be 1 or more. "
            f"The labels have {(y == 0).sum()} normal rows and {(y == 1).sum()} anomalies: use "
            "more rows, another protocol or another seed"
        )


def _split(
    X: NDArray[np.float64], y: NDArray[np.int64], protocol: str, contaminate: float, seed: int
) -> Split:
    # The legacy generator, in ADBench's order of draws: its splits are then reproduced exactly.
    rng = np.random.RandomState(seed)
    rows = _choose_rows(len(y), protocol, rng)
    if np.bincount(y[rows], minlength=2).min() < 2:
        normal, anomalies = np.bincount(y[rows], minlength=2)
        raise ValueError(
            f"protocol {protocol!r} needs at least 2 normal rows and 2 anomalies to split, "
            f"got {normal} and {anomalies}; use a larger data set or another seed"
        )
    train, test = train_test_split(rows, test_size=TEST_SHARE, stratify=y[rows], random_state=rng)
    scaler = MinMaxScaler().fit(X[train])
    kept, n_anomalies, note = _drop_anomalies(train, y[train], contaminate, rng)
    if note:
        warn(note)
    return Split(
        X_train=scaler.transform(X[kept]),
        X_test=scaler.transform(X[test]),
        y_test=y[test],
        train_index=kept,
        test_index=test,
        n_train_anomalies=n_anomalies,
        note=note,
    )


def _check_options(protocol: str, contaminate: float) -> None:
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    _check_share(contaminate)


def _check_share(contaminate: float) -> None:
    if not 0 <= contaminate <= 0.5:
        raise ValueError(f"contaminate must be a share in [0, 0.5], got {contaminate!r}")


def _check_labels(y: NDArray) -> NDArray[np.int64]:
    values = np.unique(y)
    if not np.isin(values, [0, 1]).all():
        raise ValueError(
            "y must hold 1 for anomalies and 0 for normal rows, "
            f"got the values {values[:5].tolist()}; recode the labels"
        )
    return y.astype(np.int64)


def _choose_rows(n: int, protocol: str, rng: np.random.RandomState) -> NDArray[np.int64]:
    if n < MIN_ROWS and protocol == "adbench":
        return rng.choice(n, MIN_ROWS, replace=True)
    if n > MAX_ROWS:
        return rng.choice(n, MAX_ROWS, replace=False)
    return np.arange(n)


def _drop_anomalies(
    train: NDArray[np.int64],
    y_train: NDArray[np.int64],
    contaminate: float,
    rng: np.random.RandomState,
) -> tuple[NDArray[np.int64], int, str]:
    """Return the training rows to keep, how many of them are anomalies, and a note."""
    normal, anomalies = train[y_train == 0], train[y_train == 1]
    wanted = round(contaminate * len(normal) / (1 - contaminate))
    if wanted == 0:
        return normal, 0, ""
    note = ""
    if wanted > len(anomalies):
        share = len(anomalies) / (len(normal) + len(anomalies))
        note = (
            f"contaminate={contaminate:g} asks for {wanted} anomalies in training, "
            f"only {len(anomalies)} are there (share {share:.3f})"
        )
    chosen = rng.choice(anomalies, min(wanted, len(anomalies)), replace=False)
    kept = np.concatenate([normal, chosen])
    return rng.permutation(kept), len(chosen), note
