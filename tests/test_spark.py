"""The recipes for Spark in the guide, run as they are printed, where Spark and Java are there."""

import importlib.util
import os
import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest

from skgenad import Mahalanobis
from skgenad.pipeline import make_pipeline

from ._settings import normal_rows, tiny
from .test_docs import PAGES, snippets_of

NAMES = ["x0", "x1", "x2", "x3"]
RECIPES = [s for s in snippets_of(PAGES["guide/big_data.rst"]) if "needs-spark" in s.needs]
pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("pyspark") is None or shutil.which("java") is None,
        reason="no Spark, or no Java",
    ),
    # Spark's own: of versions of pandas that it has not seen yet, and of what it calls.
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::UserWarning:pyspark"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def spark():
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    session = builder.getOrCreate()
    yield session
    session.stop()


def run(recipe, path, **names):
    """Run a recipe with a file of ours in place of the one that it names."""
    code, n = re.subn(r'"/shared/\w+\.skgenad"', repr(str(path)), recipe.code)
    assert n == 1
    exec(compile(code, "big_data.rst", "exec"), names)
    return names["scored"].toPandas()


def test_the_recipes_give_the_scores_that_the_detector_gives(spark, tmp_path):
    X = pd.DataFrame(normal_rows(300), columns=NAMES)
    arrays = tiny(Mahalanobis).fit(X.to_numpy())
    frames = make_pipeline(tiny(Mahalanobis)).fit(X)
    arrays.save(tmp_path / "a.skgenad")
    frames.save(tmp_path / "b.skgenad")
    rows = spark.createDataFrame(X.assign(place=np.arange(300))).repartition(3)
    first = run(RECIPES[0], tmp_path / "a.skgenad", rows=rows)
    second = run(RECIPES[1], tmp_path / "b.skgenad", rows=rows, columns=NAMES)
    for got, scores in (
        (first, arrays.score_samples(X.to_numpy())),
        (second, frames.score_samples(X)),
    ):
        assert list(got) == [*NAMES, "place", "score"]
        got = got.sort_values("place")
        np.testing.assert_array_equal(got["score"], scores)
    assert list(rows.toPandas()) == [*NAMES, "place"]  # the schema is what it was
