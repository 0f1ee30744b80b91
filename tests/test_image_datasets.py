"""Image sets that are fetched: tiny files in every format, from a server on this machine."""

import gzip
import hashlib
import io
import re
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType

import numpy as np
import pytest

from skgenad import datasets
from skgenad.datasets import (
    _colour_images,
    _emnist,
    _mnist_c,
    _mnist_like,
    _notmnist,
    _omniglot,
)
from skgenad.datasets._fetch import RemoteFile

from ._image_formats import (
    CLASSES,
    COLOUR,
    GREY,
    MNIST_C,
    SQUARES,
    cifar100_files,
    cifar_files,
    emnist_files,
    enlarged,
    idx,
    idx_files,
    mnist_c_files,
    mnist_files,
    npz,
    omniglot_files,
    svhn_files,
)


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Case:
    """A fetcher, where its addresses are kept, and files in its format."""

    fetch: Callable
    module: ModuleType
    attribute: str
    files: Callable
    images: dict | None = None
    n_classes: int = 10


CASES = {
    "emnist": Case(datasets.fetch_emnist, _emnist, "_EMNIST", emnist_files, GREY, 47),
    "cifar100": Case(
        datasets.fetch_cifar100, _colour_images, "_CIFAR100", cifar100_files, COLOUR, 100
    ),
    "mnist_c": Case(
        partial(datasets.fetch_mnist_c, "identity", subset="train"),
        _mnist_c,
        "_MNIST_C",
        mnist_c_files,
        GREY,
    ),
    "mnist": Case(datasets.fetch_mnist, _mnist_like, "_MNIST", mnist_files, GREY),
    "fashion_mnist": Case(datasets.fetch_fashion_mnist, _mnist_like, "_FASHION", idx_files, GREY),
    "kmnist": Case(datasets.fetch_kmnist, _mnist_like, "_KMNIST", idx_files, GREY),
    "cifar10": Case(datasets.fetch_cifar10, _colour_images, "_CIFAR10", cifar_files, COLOUR),
    "svhn": Case(datasets.fetch_svhn, _colour_images, "_SVHN", svhn_files, COLOUR),
    "omniglot": Case(datasets.fetch_omniglot, _omniglot, "_ARCHIVES", omniglot_files),
}
every_set = pytest.mark.parametrize("name", CASES)
sets_with_classes = pytest.mark.parametrize("name", [n for n in CASES if n != "omniglot"])


def files_of(value):
    """Every `RemoteFile` in nested dictionaries."""
    if isinstance(value, RemoteFile):
        return [value]
    return [file for inner in value.values() for file in files_of(inner)]


def with_digests(value, files):
    if isinstance(value, RemoteFile):
        return replace(value, digest=sha256(files[value.remote_path]), also_fits=())
    return {key: with_digests(inner, files) for key, inner in value.items()}


@dataclass(frozen=True)
class Site:
    """A fetcher that expects the tiny files, and a server that has them."""

    fetch: Callable
    files: dict
    remote: list
    url: str
    asked: list


@pytest.fixture
def site(name, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    case, folder, asked = CASES[name], tmp_path / "server", []
    files = case.files()
    folder.mkdir()
    for path, content in files.items():
        (folder / path).write_bytes(content)
    value = with_digests(getattr(case.module, case.attribute), files)
    monkeypatch.setattr(case.module, case.attribute, value)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{http.server_port}"
        yield Site(case.fetch, files, files_of(value), url, asked)
        http.shutdown()
        thread.join()


# ---- what is read ------------------------------------------------------------


@sets_with_classes
@pytest.mark.parametrize("subset", ["train", "test", "all"])
def test_images_are_downloaded_once_and_are_those_of_the_files(site, name, subset, tmp_path):
    bunch = site.fetch(subset=subset, data_home=tmp_path / "home", base_url=site.url)
    parts = ["train", "test"] if subset == "all" else [subset]
    images = CASES[name].images
    np.testing.assert_array_equal(bunch.data, np.concatenate([images[part] for part in parts]))
    np.testing.assert_array_equal(bunch.target, np.concatenate([CLASSES[part] for part in parts]))
    assert bunch.data.dtype == np.uint8
    assert bunch.data.flags.c_contiguous
    assert bunch.target.dtype == np.int64
    assert len(bunch.target_names) == CASES[name].n_classes
    assert bunch.name == name

    n_asked = len(site.asked)
    again = site.fetch(subset=subset, data_home=tmp_path / "home", base_url=site.url)
    np.testing.assert_array_equal(again.data, bunch.data)
    assert len(site.asked) == n_asked == len(bunch.filenames)


@every_set
def test_pair_is_what_the_bunch_holds(site, tmp_path):
    options = {"data_home": tmp_path / "home", "base_url": site.url}
    bunch = site.fetch(**options)
    X, y = site.fetch(**options, return_X_y=True)
    np.testing.assert_array_equal(X, bunch.data)
    np.testing.assert_array_equal(y, bunch.target)


@every_set
def test_description_says_what_was_read(site, name, tmp_path):
    bunch = site.fetch(data_home=tmp_path / "home", base_url=site.url)
    assert bunch.DESCR.startswith(f"{name}: {len(bunch.data)} images")
    assert bunch.url in bunch.DESCR
    for path in bunch.filenames:
        assert path.startswith(str(tmp_path / "home"))
        assert path in bunch.DESCR


@pytest.mark.parametrize("name", ["omniglot"])
@pytest.mark.parametrize(
    ("subset", "alphabets"),
    [
        ("train", ["Greek", "Latin"]),
        ("test", ["Tibetan"]),
        ("all", ["Greek", "Latin", "Tibetan"]),
        ("small", ["Greek", "Latin", "Tagalog"]),  # Latin is in both archives, and here once
    ],
)
def test_drawings_of_omniglot_become_small_and_white_on_black(site, subset, alphabets, tmp_path):
    bunch = site.fetch(subset=subset, data_home=tmp_path / "home", base_url=site.url)
    assert bunch.target_names == alphabets
    np.testing.assert_array_equal(bunch.target, np.repeat(np.arange(len(alphabets)), 3))
    expected = np.concatenate([enlarged(SQUARES[alphabet], 4) for alphabet in alphabets])
    np.testing.assert_array_equal(bunch.data[:, 0], 255 * expected)
    assert bunch.data.dtype == np.uint8


@pytest.mark.parametrize("name", ["emnist"])
def test_every_choice_of_emnist_is_upright_and_its_classes_have_names(site, tmp_path):
    options = {"data_home": tmp_path / "home", "base_url": site.url}
    names = {}
    for split in ("balanced", "byclass", "bymerge", "letters", "digits", "mnist"):
        bunch = site.fetch(split, **options)
        np.testing.assert_array_equal(bunch.data, GREY["train"])
        np.testing.assert_array_equal(bunch.target, CLASSES["train"])
        names[split] = "".join(bunch.target_names)
    assert names["digits"] == names["mnist"] == "0123456789"
    assert names["letters"] == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert names["byclass"] == "0123456789" + names["letters"] + names["letters"].lower()
    # Table II of the paper: these small letters are apart.
    assert names["balanced"] == names["bymerge"] == names["byclass"][:36] + "abdefghnqrt"
    with pytest.raises(ValueError, match="split must be one of balanced, .*got 'all'"):
        site.fetch("all", **options)


@pytest.mark.parametrize("name", ["mnist_c"])
def test_corruptions_come_one_after_the_other_and_are_named(site, tmp_path):
    fetch = partial(
        datasets.fetch_mnist_c, data_home=tmp_path / "home", base_url=site.url, subset="test"
    )
    both = fetch(["fog", "identity"])
    np.testing.assert_array_equal(both.data, np.concatenate([255 - GREY["test"], GREY["test"]]))
    np.testing.assert_array_equal(both.target, np.tile(CLASSES["test"], 2))
    assert both.corruptions.tolist() == ["fog"] * 5 + ["identity"] * 5
    assert fetch("fog", subset="all").corruptions.tolist() == ["fog"] * 15
    assert list(dict.fromkeys(fetch().corruptions)) == MNIST_C
    for wrong in ("snow", [], ["fog", "fog"]):
        with pytest.raises(ValueError, match="corruption must be one of identity, brightness"):
            fetch(wrong)


@pytest.mark.parametrize("name", ["cifar100"])
def test_classes_of_cifar100_may_be_its_kinds(site, tmp_path):
    options = {"data_home": tmp_path / "home", "base_url": site.url}
    fine, coarse = site.fetch(**options), site.fetch(coarse=True, **options)
    np.testing.assert_array_equal(coarse.target, CLASSES["train"] + 10)
    assert fine.target_names[7] == "fine_7" and coarse.target_names[17] == "coarse_17"
    np.testing.assert_array_equal(fine.data, coarse.data)


# ---- copies of one's own -----------------------------------------------------


@every_set
@pytest.mark.parametrize("place", [0, 1])
def test_local_copy_is_used_without_a_request(site, place, tmp_path):
    for file in site.remote:
        path = file.places(tmp_path / "home")[place]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(site.files[file.remote_path])
    bunch = site.fetch(data_home=tmp_path / "home", download_if_missing=False)
    assert len(bunch.data) == len(bunch.target) > 0
    assert not site.asked


@pytest.fixture
def small_copies(tmp_path, monkeypatch):
    """A folder with CIFAR-10's and Omniglot's small files."""
    home = tmp_path / "home"
    home.mkdir()
    cifar = npz({part: 255 - images.transpose(0, 2, 3, 1) for part, images in COLOUR.items()})
    buffer = io.BytesIO()
    np.savez(buffer, x=GREY["train"][[0, 1, 2, 1], 0], alphabet=np.array([1, 0, 1, 0]),
             alphabet_names=np.array(["Greek", "Latin"]))  # fmt: skip
    for module, attribute, content in (
        (_colour_images, "_CIFAR10_SUBSET", cifar),
        (_omniglot, "_SMALL", buffer.getvalue()),
    ):
        file = replace(getattr(module, attribute), digest=sha256(content))
        monkeypatch.setattr(module, attribute, file)
        (home / file.also_at[0]).write_bytes(content)
    return home


@pytest.mark.parametrize("name", ["cifar10"])
def test_small_copy_of_cifar_stands_in_for_a_missing_archive_only(site, small_copies):
    bunch = site.fetch(subset="test", data_home=small_copies, base_url=site.url)
    np.testing.assert_array_equal(bunch.data, 255 - COLOUR["test"])
    np.testing.assert_array_equal(bunch.target, CLASSES["test"])
    assert "A part of CIFAR-10" in bunch.DESCR
    assert not site.asked

    (archive,) = site.files.values()
    (small_copies / "cifar-10-binary.tar.gz").write_bytes(archive)
    bunch = site.fetch(subset="test", data_home=small_copies)
    np.testing.assert_array_equal(bunch.data, COLOUR["test"])
    assert "as published" in bunch.DESCR


@pytest.fixture
def grey_copies(tmp_path, monkeypatch):
    """A folder with the small files of sets in MNIST's format; of two, the test images alone."""
    home = tmp_path / "home"
    home.mkdir()
    both = {part: 255 - images[:, 0] for part, images in GREY.items()}
    for module, attribute, parts in (
        (_mnist_like, "_FASHION_PART", ("train", "test")),
        (_mnist_like, "_KMNIST_TEST", ("test",)),
        (_notmnist, "_TEST", ("test",)),
    ):
        content = npz({part: both[part] for part in parts})
        file = replace(getattr(module, attribute), digest=sha256(content))
        monkeypatch.setattr(module, attribute, file)
        (home / file.also_at[0]).write_bytes(content)
    return home


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist"])
def test_small_copies_of_grey_sets_stand_in_where_no_original_is(site, name, grey_copies):
    bunch = site.fetch(subset="test", data_home=grey_copies, base_url=site.url)
    np.testing.assert_array_equal(bunch.data, 255 - GREY["test"])
    np.testing.assert_array_equal(bunch.target, CLASSES["test"])
    assert len(bunch.filenames) == 1 and not site.asked
    whole = site.fetch(subset="all", data_home=grey_copies, base_url=site.url)
    # A copy without the training images is of no use for them.
    is_part = name == "fashion_mnist"
    inverted = [255 * is_part - (2 * is_part - 1) * GREY[part].astype(int) for part in GREY]
    np.testing.assert_array_equal(whole.data, np.concatenate(inverted))
    assert ("A part of Fashion-MNIST" in whole.DESCR) == is_part == (not site.asked)


@pytest.mark.parametrize("name", ["fashion_mnist"])
def test_original_files_come_before_a_small_copy(site, grey_copies):
    for file in site.remote:
        path = file.places(grey_copies)[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(site.files[file.remote_path])
    bunch = site.fetch(subset="test", data_home=grey_copies, download_if_missing=False)
    np.testing.assert_array_equal(bunch.data, GREY["test"])


def test_letters_of_notmnist_are_read_from_files_of_mnists_format_or_the_copy(grey_copies):
    X, y = datasets.load_notmnist(data_home=grey_copies, return_X_y=True)
    np.testing.assert_array_equal(X, 255 - GREY["test"])
    np.testing.assert_array_equal(y, CLASSES["test"])
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte\.gz' is missing.*github"):
        datasets.load_notmnist(subset="all", data_home=grey_copies)
    folder = grey_copies / "notmnist"
    folder.mkdir()
    for name, content in idx_files().items():
        (folder / name).write_bytes(content)
    bunch = datasets.load_notmnist(subset="all", data_home=grey_copies)
    np.testing.assert_array_equal(bunch.data, np.concatenate([GREY["train"], GREY["test"]]))
    np.testing.assert_array_equal(bunch.target, np.concatenate([*CLASSES.values()]))
    assert bunch.target_names == list("ABCDEFGHIJ") and bunch.name == "notmnist"
    for name in ("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        whole = (folder / name).read_bytes()
        for broken in (b"", b"no", whole[: len(whole) // 2], gzip.compress(b""), whole[:-1]):
            (folder / name).write_bytes(broken)
            with pytest.raises(ValueError, match=rf"{name}' is no gzipped array"):
                datasets.load_notmnist(subset="all", data_home=grey_copies)
        (folder / name).write_bytes(whole)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(3)))
    with pytest.raises(ValueError, match=r"shape \(10, 28, 28\) and its labels \(3,\)"):
        datasets.load_notmnist(subset="train", data_home=grey_copies)


@pytest.mark.parametrize("name", ["omniglot"])
def test_small_copy_of_omniglot_is_the_small_subset_and_no_other(site, small_copies):
    bunch = site.fetch(subset="small", data_home=small_copies, download_if_missing=False)
    np.testing.assert_array_equal(bunch.data, GREY["train"][:3])  # the second copy is left out
    np.testing.assert_array_equal(bunch.target, [1, 0, 1])
    assert bunch.target_names == ["Greek", "Latin"]
    with pytest.raises(FileNotFoundError, match="images_evaluation.zip"):
        site.fetch(subset="test", data_home=small_copies, download_if_missing=False)


# ---- what goes wrong ---------------------------------------------------------


@every_set
def test_tampered_local_file_is_refused(site, tmp_path):
    for file in site.remote:
        path = file.places(tmp_path)[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(site.files[file.remote_path] + b"!")
    with pytest.raises(OSError, match="does not hold what it should"):
        site.fetch(data_home=tmp_path)
    assert not site.asked


@every_set
def test_other_content_from_the_server_is_refused(site, tmp_path):
    for path in site.files:
        (tmp_path / "server" / path).write_bytes(b"something else")
    with pytest.raises(OSError, match="sent other content"):
        site.fetch(data_home=tmp_path / "home", base_url=site.url)


@every_set
def test_missing_file_is_an_error_when_downloads_are_off(site, tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(site.remote[0].path)):
        site.fetch(data_home=tmp_path / "home", download_if_missing=False)
    assert not site.asked


@every_set
def test_no_network_says_where_a_file_may_lie(site, tmp_path):
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="Could not download") as error:
            site.fetch(data_home=tmp_path / "home", base_url=url, n_retries=0)
    for place in site.remote[0].places(tmp_path / "home"):
        assert str(place) in str(error.value)


@every_set
def test_unknown_subset_is_an_error_that_lists_them(name):
    with pytest.raises(ValueError, match="'train', 'test'.*'validation'"):
        CASES[name].fetch(subset="validation")


@pytest.mark.parametrize("name", ["omniglot"])
def test_missing_pillow_is_named(site, tmp_path, monkeypatch):
    class NoPillow:
        def find_spec(self, name, *args):
            if name.partition(".")[0] == "PIL":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for module in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [NoPillow(), *sys.meta_path])
    with pytest.raises(ImportError, match=r"skgenad\[images\]"):
        site.fetch(data_home=tmp_path / "home", base_url=site.url)


@every_set
def test_every_file_has_its_own_digest(name):
    case = CASES[name]
    digests = [file.digest for file in files_of(getattr(case.module, case.attribute))]
    assert len(set(digests)) == len(digests)
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", digest) for digest in digests)
