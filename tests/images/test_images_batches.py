from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
import torch
from torch import Tensor

from seelike.errors import SeelikeError
from seelike.images import BadImage, Batch, Images, as_images, load_batches, load_images, partition


def whole(image: PIL.Image.Image) -> Tensor:
    """Pixels as they are, (3, height, width)."""
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float()


def corner(image: PIL.Image.Image) -> Tensor:
    return whole(image)[:, :2, :2]


def fails_on_dark(image: PIL.Image.Image) -> Tensor:
    if np.asarray(image).max() == 0:
        raise ZeroDivisionError("no light")
    return whole(image)


def scribbles(image: PIL.Image.Image) -> Tensor:
    PIL.ImageDraw.Draw(image).rectangle((0, 0, 99, 99), fill="black")
    return whole(image)


def gives_array(image: PIL.Image.Image) -> Any:
    return np.asarray(image)


def dies(image: PIL.Image.Image) -> Tensor:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class Counted(Images):
    """Ten images in memory, which count how often each is decoded."""

    def __init__(self, pixels: Callable[..., np.ndarray]) -> None:
        self.name = "counted"
        self.ids = [f"c{index}" for index in range(10)]
        self.labels = list(range(10))
        self.pixels = [pixels(index) for index in range(10)]
        self.read_count = [0] * 10

    def read(self, index: int) -> PIL.Image.Image:
        self.read_count[index] += 1
        return PIL.Image.fromarray(self.pixels[index])


PLAN = [[[7, 2, 9, 0], [1, 3, 4, 5]], [[8, 6]]]


def same(left: Batch, right: Batch) -> bool:
    return (
        (left.ids, left.indices, left.labels, left.minibatch_sizes)
        == (right.ids, right.indices, right.labels, right.minibatch_sizes)
        and [str(bad) for bad in left.bad] == [str(bad) for bad in right.bad]
        and all(torch.equal(a, b) for a, b in zip(left.inputs, right.inputs, strict=True))
    )


def test_follows_the_plan_and_decodes_once(pixels: Callable[..., np.ndarray]) -> None:
    images = Counted(pixels)
    first, second = load_batches(images, PLAN, [whole, corner], workers=0, on_bad_image="stop")
    assert first.indices == [7, 2, 9, 0, 1, 3, 4, 5]
    assert first.ids == [f"c{index}" for index in first.indices]
    assert first.labels == first.indices
    assert (first.minibatch_sizes, second.minibatch_sizes) == ([4, 4], [2])
    assert images.read_count == [1] * 10
    for batch in (first, second):
        for row, index in enumerate(batch.indices):
            expected = torch.from_numpy(pixels(index)).permute(2, 0, 1).float()
            assert torch.equal(batch.inputs[0][row], expected)
            assert torch.equal(batch.inputs[1][row], expected[:, :2, :2])


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers_gives_the_same(folder: Path, workers: int) -> None:
    (folder / "cat" / "1.png").write_bytes(b"")
    images = load_images(f"folder:{folder}")
    plan = [[part] for repeat in range(4) for part in partition(6, 4, repeat=repeat)]
    alone = list(load_batches(images, plan, [whole, corner], workers=0, on_bad_image="skip"))
    together = list(load_batches(images, plan, [whole, corner], workers=workers, on_bad_image="skip"))
    assert len(alone) == len(plan) == len(together)
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


def test_skip_leaves_an_image_out_for_all_models(folder: Path) -> None:
    (folder / "cat" / "1.png").write_bytes(b"")
    (folder / "dog" / "0.png").write_text("no image")
    images = load_images(f"folder:{folder}")
    plan = [[[0, 1, 2], [5, 3, 4]], [[3], [1]]]
    first, second = load_batches(images, plan, [whole, corner], workers=0, on_bad_image="skip")
    assert first.indices == [0, 2, 5, 4]
    assert first.minibatch_sizes == [2, 2]
    assert [given.shape[0] for given in first.inputs] == [4, 4]
    assert [(bad.id, bad.reason) for bad in first.bad] == [
        ("cat/1.png", "it is empty (0 bytes)"),
        ("dog/0.png", "it is not an image in a format that PIL knows"),
    ]
    assert (second.ids, second.minibatch_sizes, len(second.bad)) == ([], [0, 0], 2)
    assert [tuple(given.shape) for given in second.inputs] == [(0,), (0,)]


@pytest.mark.parametrize("workers", [0, 2])
def test_stop_names_the_image_and_the_way_out(folder: Path, workers: int) -> None:
    (folder / "dog" / "0.png").write_bytes(b"")
    batches = load_batches(
        load_images(f"folder:{folder}"), [[[0, 1]], [[2, 3]], [[4]]], [whole], workers=workers, on_bad_image="stop"
    )
    assert next(batches).indices == [0, 1]
    with pytest.raises(BadImage, match=r"'dog/0\.png'.*0 bytes.*folder:.*--on-bad-image skip") as caught:
        next(batches)
    assert type(caught.value) is BadImage
    assert caught.value.id == "dog/0.png"
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_preprocessing_that_fails_names_the_image(workers: int, policy: Any, pixels: Callable[..., np.ndarray]) -> None:
    images = Counted(pixels)
    images.pixels[3] = np.zeros_like(images.pixels[3])
    said = r"preprocessing 'fails_on_dark' failed on image 'c3' \(RGB, 16 x 12 px\): ZeroDivisionError\('no light'\)"
    with pytest.raises(SeelikeError, match=said) as caught:
        list(load_batches(images, PLAN, [whole, fails_on_dark], workers=workers, on_bad_image=policy))
    assert type(caught.value) is SeelikeError  # the image is readable, so this is nothing to skip


def test_shapes_that_differ_name_the_image(pixels: Callable[..., np.ndarray]) -> None:
    images = Counted(pixels)
    images.pixels[9] = pixels(9, height=20)
    with pytest.raises(SeelikeError, match=r"'c9' is \(3, 20, 16\).*'c7' is \(3, 12, 16\); resize and crop"):
        list(load_batches(images, PLAN, [whole]))


def test_preprocessing_must_give_tensors(pixels: Callable[..., np.ndarray]) -> None:
    with pytest.raises(SeelikeError, match=r"'gives_array' gave a ndarray for image 'c7'"):
        list(load_batches(Counted(pixels), PLAN, [gives_array]))


def test_one_model_cannot_draw_on_the_image_of_another(pixels: Callable[..., np.ndarray]) -> None:
    batch = next(load_batches(Counted(pixels), PLAN, [scribbles, whole]))
    assert batch.inputs[0].max() == 0
    assert torch.equal(batch.inputs[1][0], torch.from_numpy(pixels(7)).permute(2, 0, 1).float())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shared_preprocess_runs_once(workers: int, pixels: Callable[..., np.ndarray]) -> None:
    batch = next(load_batches(Counted(pixels), PLAN, [whole, corner, whole], workers=workers))
    assert batch.inputs[0].data_ptr() == batch.inputs[2].data_ptr()
    assert batch.inputs[1].shape == (8, 3, 2, 2)


def test_tensors_bypass_preprocessing() -> None:
    tensor = torch.rand(10, 5, 4, 4, dtype=torch.float64)
    first, second = load_batches(as_images(tensor), PLAN, [fails_on_dark, whole], workers=2)
    assert all(torch.equal(given, tensor[first.indices]) for given in first.inputs)
    assert len(first.inputs) == 2
    assert torch.equal(second.inputs[1], tensor[[8, 6]])
    assert second.labels is None


def test_sources_are_picklable(folder: Path, write_parquet, write_tar, encoded: Callable[..., bytes]) -> None:
    # Workers are forked on Linux today, spawned elsewhere and, from Python 3.14 on, forked from a server.
    parquet = write_parquet("a.parquet", image=[encoded(0)])
    tar = write_tar("a.tar", [("a.png", encoded(0))])
    for spec in (f"folder:{folder}", f"parquet:{parquet}", f"tar:{tar}", "scenes:test?n=2,size=16"):
        images = load_images(spec)
        copy = pickle.loads(pickle.dumps(images))
        assert np.array_equal(np.asarray(copy.read(0)), np.asarray(images.read(0)))


def test_a_worker_that_dies() -> None:
    images = load_images("scenes:test?n=8,size=16")
    with pytest.raises(SeelikeError, match=r"process that decodes images died.*--workers 0"):
        list(load_batches(images, [[[0, 1, 2, 3]]], [dies], workers=1))


def test_stopping_early_ends_the_workers() -> None:
    batches = load_batches(load_images("scenes:test?n=64,size=16"), [[[i]] for i in range(64)], [whole], workers=2)
    next(batches)
    before = set(torch.multiprocessing.active_children())
    assert before
    batches.close()
    del batches
    assert not before & set(torch.multiprocessing.active_children())


def test_on_bad_image_is_checked() -> None:
    with pytest.raises(SeelikeError, match="'skip' or 'stop', not 'ignore'"):
        list(load_batches(load_images("scenes:test?n=4"), [[[0]]], [whole], on_bad_image="ignore"))  # type: ignore[arg-type]


def test_ctrl_c_speaks_with_one_voice(tmp_path: Path) -> None:
    script = tmp_path / "endless.py"
    script.write_text(
        textwrap.dedent("""
        import numpy, signal, torch
        from seelike.images import load_batches, load_images

        def whole(image):
            return torch.from_numpy(numpy.asarray(image).copy())

        if __name__ == "__main__":
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without it
            try:
                images = load_images("scenes:test?n=8,size=16")
                for batch in load_batches(images, [[[0, 1]]] * 10**6, [whole], workers=2):
                    print("batch", flush=True)
            except KeyboardInterrupt:
                print("stopped", flush=True)
        """)
    )
    command = [sys.executable, str(script)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "batch\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
        out, err = process.communicate(timeout=30)
    assert out.splitlines()[-1] == "stopped"
    assert err == ""
    time.sleep(0.2)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # nobody of the group is left
