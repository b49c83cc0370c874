"""Files on disk through the whole pass: the same images for all models, bad ones named, any number of workers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import seelike
from nets import small_net, tiny_vit
from seelike.errors import SeelikeError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(12):
            small = PIL.Image.fromarray(generator.integers(0, 255, (6, 6, 3), dtype=np.uint8))
            small.resize((48, 40)).save(tmp_path / "images" / name / f"{i:02}.png")
    return tmp_path / "images"


@pytest.fixture(scope="module")
def models() -> list[seelike.Model]:
    vit = seelike.Model(tiny_vit(img_size=40), (3, 40, 40), "vit")  # another input size than its partner
    return [vit, seelike.Model(small_net(), (3, 32, 32), "net")]


def values(tree) -> np.ndarray:
    return tree["similarity/vit/net"]["cka"].values


def test_models_of_different_input_size_see_the_same_files(models, folder: Path) -> None:
    plain = seelike.compare(models, f"folder:{folder}", minibatch=6)
    helped = seelike.compare(models, f"folder:{folder}", minibatch=6, workers=2)
    assert np.array_equal(values(plain), values(helped))
    paths = sorted(folder.glob("*/*.png"))
    by_hand = [torch.stack([m.preprocess(PIL.Image.open(p).convert("RGB")) for p in paths]) for m in models]
    assert [tuple(t.shape) for t in by_hand] == [(24, 3, 40, 40), (24, 3, 32, 32)]
    alone = seelike.compare(models[0], by_hand[0], minibatch=6)["similarity/vit/vit"]["cka"]
    np.testing.assert_allclose(alone, plain["similarity/vit/vit"]["cka"], atol=1e-12)


def test_a_corrupt_image_stops_or_is_skipped_for_all(models, folder: Path) -> None:
    bad = folder / "cats" / "03.png"
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(SeelikeError, match=r"cats/03\.png.*skip"):
        seelike.compare(models, f"folder:{folder}", minibatch=6)
    tree = seelike.compare(models, f"folder:{folder}", minibatch=6, on_bad_image="skip")
    run = json.loads(tree.attrs["run"])
    assert [s["id"] for s in run["skipped"]] == ["cats/03.png"]
    assert run["images"]["used"] == 23
    assert tree["similarity/net/net"].attrs["images"] == 23
    assert "1 of 24 image readings were skipped, for all models" in run["notes"]


def test_a_minibatch_that_skipping_left_too_small_is_counted(models, folder: Path) -> None:
    for path in (folder / "cats").iterdir():
        path.write_bytes(b"")
    tree = seelike.compare(models, f"folder:{folder}", minibatch=5, on_bad_image="skip", seed=1)
    run = json.loads(tree.attrs["run"])
    assert run["images"]["used"] == 24 - len(run["skipped"]) == tree["similarity/net/net"].attrs["images"]
    reasons = {s["reason"] for s in run["skipped"] if s["id"].startswith("dogs")}
    assert reasons <= {"fewer than 4 images of its minibatch could be read"}
    for path in (folder / "dogs").iterdir():
        path.write_bytes(b"")
    with pytest.raises(SeelikeError, match="none of the 24 images"):
        seelike.compare(models, f"folder:{folder}", minibatch=5, on_bad_image="skip")


def test_a_tensor_must_fit_all_models(models) -> None:
    with pytest.raises(
        SeelikeError, match=r"vit takes images of \(3, 40, 40\) and the tensor holds images of \(3, 32, 32\)"
    ):
        seelike.compare(models, torch.rand(16, 3, 32, 32))
    with pytest.raises(SeelikeError, match=r"\(3, 32, 32\) and the tensor holds images of \(1, 32, 32\)"):
        seelike.compare(models[1], torch.rand(16, 1, 32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minibatch": 3}, "--minibatch must be at least 4, not 3"),
        ({"limit": 0}, "--limit must be at least 1"),
        ({"limit": 2}, "2 images are too few: the unbiased HSIC needs at least 4"),
        ({"repeats": 0}, "--repeats must be at least 1"),
        ({"on_bad_image": "hide"}, "stop or skip, not 'hide'"),
        ({"device": "cuda:7"}, "--device cuda:7 cannot be used here"),
        ({"resume": True}, "folder must be given"),
        ({"studies": []}, "no studies"),
    ],
)
def test_options_that_cannot_be(models, options, message: str) -> None:
    with pytest.raises(SeelikeError, match=message):
        seelike.compare(models[1], torch.rand(16, 3, 32, 32), **options)


def test_fewer_images_than_a_minibatch_can_be(models) -> None:
    with pytest.raises(SeelikeError, match="4"):
        seelike.compare(models[1], torch.rand(3, 3, 32, 32))
    tree = seelike.compare(models[1], torch.rand(5, 3, 32, 32))  # one short minibatch, no error bars
    assert np.isnan(tree["similarity/net/net"]["cka_error"]).all()
    assert np.isfinite(tree["similarity/net/net"]["cka"]).all()


def test_no_models_and_wrong_things() -> None:
    with pytest.raises(SeelikeError, match="no models were given"):
        seelike.compare([], torch.rand(16, 3, 32, 32))
    with pytest.raises(SeelikeError, match="not int"):
        seelike.compare([3], torch.rand(16, 3, 32, 32))  # type: ignore[list-item]
