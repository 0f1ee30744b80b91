"""Tiny files in the formats of the image sets that are fetched."""

import gzip
import io
import struct
import tarfile
import zipfile

import numpy as np
from PIL import Image
from scipy.io import savemat

N_TRAIN, N_TEST = 10, 5
RNG = np.random.default_rng(0)

GREY = {part: RNG.integers(256, size=(n, 1, 28, 28), dtype=np.uint8) for part, n in
        (("train", N_TRAIN), ("test", N_TEST))}  # fmt: skip
COLOUR = {part: RNG.integers(256, size=(n, 3, 32, 32), dtype=np.uint8) for part, n in
          (("train", N_TRAIN), ("test", N_TEST))}  # fmt: skip
CLASSES = {"train": np.arange(N_TRAIN) % 10, "test": np.arange(N_TEST)[::-1]}
MNIST_C = (
    "identity brightness canny_edges dotted_line fog glass_blur impulse_noise motion_blur rotate "
    "scale shear shot_noise spatter stripe translate zigzag"
).split()


def npz(images):
    arrays = {f"x_{part}": value for part, value in images.items()}
    arrays |= {f"y_{part}": CLASSES[part].astype(np.uint8) for part in images}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def idx(array):
    header = struct.pack(">I", 0x800 + array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


def mnist_files():
    return {"mnist.npz": npz({part: images[:, 0] for part, images in GREY.items()})}


def idx_files():
    stems = {"train": "train", "test": "t10k"}
    images = {f"{stems[p]}-images-idx3-ubyte.gz": idx(GREY[p][:, 0]) for p in stems}
    return images | {f"{stems[p]}-labels-idx1-ubyte.gz": idx(CLASSES[p]) for p in stems}


def cifar_files():
    buffer = io.BytesIO()
    batches = {f"data_batch_{k + 1}": (COLOUR["train"][2 * k :][:2], CLASSES["train"][2 * k :][:2])
               for k in range(5)}  # fmt: skip
    batches["test_batch"] = (COLOUR["test"], CLASSES["test"])
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, (images, labels) in batches.items():
            rows = np.hstack([labels[:, None], images.reshape(len(images), -1)]).astype(np.uint8)
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = rows.size
            archive.addfile(member, io.BytesIO(rows.tobytes()))
    return {"cifar-10-binary.tar.gz": buffer.getvalue()}


def cifar100_files():
    """Records have the kind, here ten more than the class, before the class."""
    members = {
        "fine_label_names.txt": b"\n".join(b"fine_%d" % k for k in range(100)) + b"\n",
        "coarse_label_names.txt": b"\n".join(b"coarse_%d" % k for k in range(20)) + b"\n",
    }
    for part, images in COLOUR.items():
        labels = np.stack([CLASSES[part] + 10, CLASSES[part]], axis=1)
        rows = np.hstack([labels, images.reshape(len(images), -1)]).astype(np.uint8)
        members[f"{part}.bin"] = rows.tobytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(f"cifar-100-binary/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return {"cifar-100-binary.tar.gz": buffer.getvalue()}


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def emnist_files():
    """All images are the same in all choices; letters are counted from 1, and lie on their side."""
    members = {}
    for split in ("balanced", "byclass", "bymerge", "letters", "digits", "mnist"):
        for part, images in GREY.items():
            name = f"gzip/emnist-{split}-{part}"
            members[f"{name}-images-idx3-ubyte.gz"] = idx(images[:, 0].transpose(0, 2, 1))
            labels = CLASSES[part] + (split == "letters")
            members[f"{name}-labels-idx1-ubyte.gz"] = idx(labels)
    return {"gzip.zip": zipped(members)}


def mnist_c_files():
    """Images of each corruption are inverted, but for those that have none."""
    members = {}
    for corruption in MNIST_C:
        for part, images in GREY.items():
            shown = images if corruption == "identity" else 255 - images
            for kind, array in (
                ("images", shown.transpose(0, 2, 3, 1)),
                ("labels", CLASSES[part].astype(np.int64)),
            ):
                buffer = io.BytesIO()
                np.save(buffer, array)
                members[f"mnist_c/{corruption}/{part}_{kind}.npy"] = buffer.getvalue()
    return {"mnist_c.zip": zipped(members)}


def svhn_files():
    files = {}
    for part, images in COLOUR.items():
        buffer = io.BytesIO()
        labels = np.where(CLASSES[part] == 0, 10, CLASSES[part]).astype(np.uint8)
        savemat(buffer, {"X": images.transpose(2, 3, 1, 0), "y": labels[:, None]})
        files[f"{part}_32x32.mat"] = buffer.getvalue()
    return files


OMNIGLOT = {
    "background": ["Greek", "Latin"],
    "evaluation": ["Tibetan"],
    "background_small1": ["Greek", "Latin"],
    "background_small2": ["Latin", "Tagalog"],
}
# Black on white, of 1 bit as in the archives; 15 pixels become 4, so that squares stay sharp.
SQUARES = {
    name: np.random.default_rng(k).random((3, 7, 7)) < 0.5
    for k, name in enumerate(["Greek", "Latin", "Tagalog", "Tibetan"])
}


def enlarged(squares, side):
    return squares.repeat(side, axis=-2).repeat(side, axis=-1)


def omniglot_files():
    files = {}
    for part, alphabets in OMNIGLOT.items():
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(f"images_{part}/", b"")
            for name in reversed(alphabets):
                for k, drawing in enumerate(~enlarged(SQUARES[name], 15)):
                    png = io.BytesIO()
                    Image.fromarray(drawing).save(png, "PNG")
                    path = f"images_{part}/{name}/character0{k}/0_0{k}.png"
                    archive.writestr(path, png.getvalue())
        files[f"images_{part}.zip"] = buffer.getvalue()
    return files
