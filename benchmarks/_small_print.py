"""What every report says at its end: its data by their names, its seeds, budget and limits.

`NOTES` has what a report does not show, by the names of reports; a report without a note has an
entry to get. Seeds, budgets, and whether CIFAR-10 is a part of itself, are read off the rows.
"""

from __future__ import annotations

import pandas as pd

from skgenad.datasets import list_adbench

# Rows of a report whose training images are of CIFAR-10: a class, or all of them.
_OF_CIFAR10 = {"cifar_ood": 10_000}
_CIFAR10 = (
    "CIFAR-10 is a part of itself here: 1,000 training and 400 test images a class, a fifth and "
    "two fifths, which had been JPEG files once. Rows of one page can be compared with each "
    "other, not with a paper's figures."
)
_EMBEDDINGS = (
    "The embeddings are ADBench's files; by which weights and crops they were made is not ours to "
    "check. Fifteen of the sets are classes of one data set, MVTec-AD."
)
_SHORT = (
    'The size "small" has narrow networks and a small part of the steps of the papers: whether a '
    "method reaches its paper's figure with the paper's training is not answered here, and "
    "differences of detectors with one seed may be chance."
)
_ONE_MACHINE = (
    "Other machines, other numbers of threads, and other lengths of training: ratios carry over "
    "farther than seconds do. It says nothing of how good detectors are."
)
_CHOICE = (
    "These are the tables that defaults are chosen on, with their test labels: they do not say "
    "what to expect on others. One split of each table."
)
# What was paid, by the first of these columns that rows have. A cell is what is computed at once.
_BUDGETS = {
    "fit_seconds": "Seconds of a fit",
    "cpu_seconds": "Seconds of a cell",
    "seconds": "Seconds of a cell",
}
_SEED_NAMES = {"split": "Splits", "repetition": "Repetitions", "seed": "Seeds"}

NOTES = {
    "ablations": (
        "The papers' sizes: images are 14 x 14, networks perceptrons, steps a hundredth. What a "
        "table says of a choice holds this early in training; of the first seed alone unless a "
        "line has more. All sets of anomalies but the digit 9 are of other kinds than digits."
    ),
    "adbench": (
        "Sets larger or of other kinds than these. The paper that Table 6 is of has all 47 and "
        "three seeds; here what takes long has one, which the titles say. Some sets come from one "
        "source, and under `adbench` small ones are resampled before the split, so that copies of "
        "training rows are tested."
    ),
    "cance_tables": (
        "Thyroid, Arrhythmia, Abalone and KDDCUP99 in the files of ODDS, UCI and DAGMM's "
        f"reproduction, whose preparation was not checked against the paper's. {_EMBEDDINGS} "
        "Settings were chosen on splits of the same sets that no table has."
    ),
    "checkpoints": f"A disk other than this machine's. {_ONE_MACHINE}",
    "cifar_ood": (
        f"{_SHORT} CUReT's patches stand in for DTD; sets of the papers that have no column were "
        "not at hand. Omniglot is the part of it that was."
    ),
    "committee_choice": _CHOICE,
    "committee_cost": _ONE_MACHINE,
    "committee_members": (
        "The spread over seeds: each table is split once. The tables were not chosen on, and this "
        "page is no choice either: members that look good here were not made default."
    ),
    "contaminated": (
        "Anomalies left in are drawn from those of the set itself, with labels that somebody knew; "
        "clusters of unknown faults, or mislabelled rows, may be others."
    ),
    "dcase": (
        "The challenge: its development set was not at hand. `fan` is one machine of MIMII, twelve "
        "training clips of a sample that somebody published, `bearing` is CWRU's recordings cut "
        "into clips, `propeller` a quadcopter's flights, with noise added because loudness alone "
        "tells them apart without. With so few clips an AUC is sharp to a tenth at best."
    ),
    "density_2d": (
        "Rows of more than two columns, and detection: it is about which density training ends at. "
        "Networks and steps are those of the script, not the papers' in every row."
    ),
    "discriminative": (
        "The paper's Table S4: its Wide-ResNet, and 80 Million Tiny Images as the general set, "
        "which is withdrawn. The classifiers are small, their settings were not searched, and "
        "photographs are those of a part of CIFAR-10 that had been JPEG files once."
    ),
    "early_stopping": (
        "Other settings of `EarlyStopping` than its defaults, images, and the spread over seeds: "
        f"each table has one split and one fit. {_CHOICE}"
    ),
    "embeddings": (
        f"{_EMBEDDINGS} What has long training ran with small networks, few steps and one seed: it "
        "says nothing of the papers' sizes. Networks of today, as ViT, are not among them."
    ),
    "explanations": (
        "Real faults: changed cells have values of other normal rows, so that what is odd is how "
        "columns go together. One fit for each table and detector; whether an explanation helps a "
        "person was not asked."
    ),
    "false_discoveries": (
        "Streams, where rows asked about come one by one, and tables of fewer than 2,500 normal "
        "rows. Guarantees are about the mean over draws, of which single ones may have more."
    ),
    "feature_energies": (
        f"{_EMBEDDINGS} The paper's networks, eight times as wide, and its 30 passes; features of "
        "a ViT. One seed of each line unless it says more; the rule was found on the sets of the "
        "first table, and the second has the others."
    ),
    "glow_correlations": (
        "Models of the papers' size, and house numbers, of which the paper's figures are: narrow "
        "ones were trained for 500 steps here, on grey digits and on photographs of animals and "
        "vehicles that had been JPEG files once. One seed unless a line says more."
    ),
    "glow_choices": (
        "Images other than grey digits, and more than 500 steps: whether what normalised couplings "
        "gain lasts. Each seed draws its digits "
        "anew, so that deviations are of data and of starts together."
    ),
    "hierarchies": (
        f"{_SHORT} The general distribution of the paper, 80 Million Tiny Images, is withdrawn: "
        "the sets in the lines of data stand for it. Bits per dimension, in the lines below the "
        "tables, say how far from the papers' the flows are. SVHN and LSUN were not at hand."
    ),
    "image_features": _ONE_MACHINE,
    "kernel_base": _CHOICE,
    "label_free": (
        "Other candidates: they are closed forms of up to 300 training rows, and what is trained "
        "by gradients is there on few tables and with short training. One split of each table; on "
        "some of the tables the package's defaults were chosen."
    ),
    "mixed_tables": (
        "Other tables than these five, of which two come with their categories one-hot: intervals "
        "are over seeds of one table. Insurance claims and Adult are no data of anomalies; their "
        "labels are fraud that was reported, and an income."
    ),
    "mixtures": _CHOICE,
    "mnist_corrupted": (
        "The published images of MNIST-C: corruptions are drawn anew by the rules of the published "
        "ones, with another generator; lines, smears and fog differ from theirs in details, which "
        f"`make_mnist_c` states. {_SHORT}"
    ),
    "mnist_holdout": f"{_SHORT} Digits without a column have not been run.",
    "mnist_one_class": _SHORT,
    "mnist_ood": (
        f"{_SHORT} Fashion-MNIST's training images are the first 800 of each class, notMNIST "
        "10,000 letters of its small set, and of Omniglot a part; EMNIST was not at hand."
    ),
    "mvtec": (
        "MVTec AD as a whole: two of its fifteen categories, as JPEG copies reduced to 256 pixels, "
        "and a part of the magnetic tiles. The network was trained on ImageNet by others. What is "
        "trained by gradients has the widths and steps of two cores, far from the papers'."
    ),
    "oddbench": (
        "All of OddBench: a hundred of its some 790 tables, drawn at random. Their splits are "
        "fixed, so that seeds are those of detectors alone, and what takes long has one."
    ),
    "pwae_photographs": (
        "Photographs at more than 64 pixels, the paper's ResNet-50 with 2,048 numbers a patch, "
        "and its training: 600 steps are few, and both detectors go on to gain. One seed of most "
        "lines, so differences of a few hundredths may be chance. Screws differ from good ones in "
        "brightness and contrast, whatever else is wrong with them."
    ),
    "pwae_textures": (
        "Photographs: defects are drawn by a generator of this package, and settings were chosen "
        f"on other images of it. {_SHORT}"
    ),
    "scale": _ONE_MACHINE,
    "sensors": (
        "Alarms in time: steps are ranked, no delay is counted, nothing is adjusted. SKAB's file "
        "without anomalies is left out, SMAP and MSL are copies of telemanom's files, some of "
        "whose labels are disputed (Wu and Keogh, 2021); bearings have one recording of each "
        "fault, and the rate of the normal one is not published."
    ),
    "speed": _ONE_MACHINE,
    "speed_gpu": _ONE_MACHINE,
    "streams": (
        "Drifts other than a steady one of a standard deviation, and tables beyond these few."
    ),
    "summary": (
        "Images, sounds and series, which have reports of their own. ADBench has 30 of its 47 "
        "tables here and OddBench 100 of its some 790; shown are those that nothing was tuned on."
    ),
    "thresholds": (
        "Training rows with anomalies among them, and rows that are not exchangeable: guarantees "
        "are about rows like those held out."
    ),
}


def small_print(name: str, rows: pd.DataFrame | None = None) -> list[str]:
    """Last paragraphs of a report: data, seeds, budget as its rows have them, and its limits."""
    text = []
    if rows is not None:
        most = _OF_CIFAR10.get(name)
        if most is not None and (rows["n_train"] <= most).any():
            text.append(_CIFAR10)
        for column, words in _SEED_NAMES.items():
            if column in rows and rows[column].notna().any():
                text.append(f"{words}: {_listed(rows[column])}.")
        paid = next((column for column in _BUDGETS if column in rows), None)
        if paid is not None and rows[paid].notna().any():
            middle, most_paid = rows[paid].median(), rows[paid].max()
            text.append(f"{_BUDGETS[paid]}: median {middle:,.3g}, at most {most_paid:,.0f}.")
    parts = [" ".join(text)] if text else []
    if name in NOTES:
        parts.append(f"**What this does not show.** {NOTES[name]}")
    return parts


def adbench_note(sets: tuple[str, ...]) -> str:
    """Why not all tables of ADBench are there."""
    known = list_adbench("Classical")
    missing = ", ".join(name.partition("_")[2] for name in known if name not in sets)
    return (
        f"{len(sets)} of ADBench's {len(known)} tables: those that the folder of data held. The "
        "machines of the runs could not download the others, and none was left out for what came "
        f"out on it. Missing are {missing}."
    )


def _listed(values: pd.Series) -> str:
    """Numbers that are there, a whole run of them by its ends."""
    found = sorted({int(value) for value in values.dropna()})
    if len(found) > 3 and found == list(range(found[0], found[-1] + 1)):
        return f"{found[0]} to {found[-1]}"
    return ", ".join(map(str, found))
