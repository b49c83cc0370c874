"""`Model` around any module: its state, its preprocessing, its inputs."""

from __future__ import annotations

import pickle

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor, nn

from seelike.errors import SeelikeError
from seelike.models import Model, load_model


def tiny(channels: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


def test_module_is_ready_to_be_studied() -> None:
    module = tiny().train()
    model = Model(module, (3, 8, 8), "mine")
    assert model.module is module
    assert not any(m.training for m in module.modules())
    assert not any(p.requires_grad for p in module.parameters())


def test_parameters_are_counted_once() -> None:
    shared = nn.Linear(4, 4)
    assert Model(nn.Sequential(shared, shared, nn.Linear(4, 1)), (1, 2, 2)).parameters == 4 * 4 + 4 + 4 + 1


def test_wrappers_are_taken_off() -> None:
    module = nn.Linear(2, 2)
    assert Model(nn.DataParallel(module)).module is module
    assert Model(torch.compile(module)).module is module
    assert Model(nn.DataParallel(torch.compile(module))).module is module  # type: ignore[arg-type]


def test_names_are_fit_for_a_line() -> None:
    assert Model(nn.Identity(), name="  my\n\tnet\x1b[31m ").name == "my net [31m"
    assert Model(nn.Identity(), name=" \n").name == "model"


def test_type_and_device_are_those_of_the_module() -> None:
    model = Model(nn.Linear(2, 2))
    assert (model.device.type, model.dtype) == ("cpu", torch.float32)
    assert model.to("cpu", torch.bfloat16) is model
    assert model.dtype is torch.bfloat16
    (images,) = model.inputs(torch.ones(1, 3, 224, 224))
    assert images.dtype is torch.bfloat16
    assert Model(nn.Identity()).dtype is torch.float32


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(SeelikeError, match="cannot move model net to device nowhere"):
        Model(nn.Linear(2, 2), name="net").to("nowhere")


def test_no_module_no_model() -> None:
    with pytest.raises(SeelikeError, match=r"model net must be a torch.nn.Module, not function"):
        Model(lambda x: x, name="net")  # type: ignore[arg-type]


def test_lazy_parameters_must_have_values() -> None:
    with pytest.raises(SeelikeError, match="model net has lazy parameters"):
        Model(nn.LazyLinear(3), name="net")


@pytest.mark.parametrize("size", [(224, 224), (3, 0, 4), 224, "abc"])
def test_odd_sizes_are_refused(size: object) -> None:
    with pytest.raises(SeelikeError, match=r"input_size of model net must be \(channels, height, width\)"):
        Model(nn.Identity(), size, "net")  # type: ignore[arg-type]


def test_inputs_go_by_place_or_name() -> None:
    images = torch.randn(5, 3, 8, 8)
    assert Model(tiny(), (3, 8, 8)).inputs(images)[0] is images  # type: ignore[index]
    named = Model(tiny(), (3, 8, 8), input_name="pixel_values").inputs(images)
    assert isinstance(named, dict)
    assert list(named) == ["pixel_values"]
    assert named["pixel_values"] is images


@pytest.mark.parametrize("shape", [(5, 3, 8, 9), (5, 1, 8, 8), (3, 8, 8), (5, 3, 8)])
def test_wrong_batches_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SeelikeError) as caught:
        Model(tiny(), (3, 8, 8), "net").inputs(torch.zeros(shape))
    assert "model net takes a batch of shape (n, 3, 8, 8)" in str(caught.value)
    assert f"was given {shape}" in str(caught.value)


def test_bytes_are_refused() -> None:
    with pytest.raises(SeelikeError, match=r"images of type torch.uint8; give preprocessed floats"):
        Model(tiny(), (3, 8, 8)).inputs(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


def test_example_is_always_the_same_and_draws_nothing() -> None:
    model = Model(tiny(), (3, 8, 8))
    before = torch.get_rng_state()
    first, second = model.example(), model.example()
    assert first.shape == (2, 3, 8, 8)
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(first[0], first[1])


def test_default_preprocessing_equals_its_definition(photo: PIL.Image.Image) -> None:
    model = Model(nn.Identity(), (3, 28, 28))
    # 200 x 140: the short side becomes 28 * 256 / 224 = 32, the long one 32 * 200 / 140 -> 45 (cut off).
    small = np.asarray(photo.resize((45, 32), PIL.Image.Resampling.BICUBIC), dtype=np.float64)
    left, top = round((45 - 28) / 2), (32 - 28) // 2
    expected = small[top : top + 28, left : left + 28].transpose(2, 0, 1) / 127.5 - 1
    np.testing.assert_allclose(model.preprocess(photo).numpy(), expected, atol=1e-6)
    for word in ("default", "32", "bicubic", "28 x 28", "[-1, 1]"):
        assert word in model.preprocess_note


@pytest.mark.parametrize(("value", "scaled"), [(0, -1.0), (255, 1.0), (51, -0.6)])
def test_default_preprocessing_of_one_colour(value: int, scaled: float) -> None:
    image = PIL.Image.new("RGB", (40, 300), (value,) * 3)
    made = Model(nn.Identity(), (3, 16, 24)).preprocess(image)
    torch.testing.assert_close(made, torch.full((3, 16, 24), scaled))


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "1"])
def test_every_mode_becomes_what_the_model_takes(photo: PIL.Image.Image, mode: str) -> None:
    image = photo.convert(mode)
    coloured, grey = Model(nn.Identity(), (3, 16, 16)), Model(nn.Identity(), (1, 16, 16))
    assert torch.equal(coloured.preprocess(image), coloured.preprocess(image.convert("RGB")))
    assert torch.equal(grey.preprocess(image), grey.preprocess(image.convert("L")))
    assert grey.preprocess(image).shape == (1, 16, 16)


def test_other_channels_have_no_default() -> None:
    model = Model(tiny(4), (4, 8, 8), "multispectral")
    assert "none" in model.preprocess_note
    assert model.inputs(torch.zeros(2, 4, 8, 8)) is not None
    with pytest.raises(SeelikeError, match="model multispectral takes 4 channels"):
        model.preprocess(PIL.Image.new("RGB", (9, 9)))


def grey_levels(image: PIL.Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image.resize((8, 8)), dtype=np.float32)).permute(2, 0, 1)


def test_own_preprocessing_is_used(photo: PIL.Image.Image) -> None:
    model = Model(tiny(), (3, 8, 8), preprocess=grey_levels)
    assert torch.equal(model.preprocess(photo), grey_levels(photo))
    assert model.preprocess_note == "the caller's own"
    again = pickle.loads(pickle.dumps(model.preprocess))  # worker processes get it so
    assert torch.equal(again(photo), grey_levels(photo))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (PIL.Image.new("RGB", (8, 8)), "returned a Image"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "returned a torch.uint8 tensor"),
        (torch.zeros(3, 9, 8), r"returned shape \(3, 9, 8\), but the model's input_size is \(3, 8, 8\)"),
    ],
)
def test_own_preprocessing_is_checked(photo: PIL.Image.Image, result: object, words: str) -> None:
    with pytest.raises(SeelikeError, match=f"model net {words}"):
        Model(tiny(), (3, 8, 8), "net", preprocess=lambda _: result).preprocess(photo)


def test_anatomy_is_kept_until_the_type_changes() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    model = Model(module, (3, 8, 8))
    first = model.anatomy
    assert model.anatomy is first
    assert model.to("cpu").anatomy is first
    model.module.double()
    assert model.anatomy is not first


def test_a_model_that_cannot_be_read_is_named() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum().item() > 0 else -x

    with pytest.raises(SeelikeError, match="branches"):
        _ = Model(Branches(), (3, 8, 8), "branches").anatomy


@pytest.mark.parametrize("spec", ["timm:test_vit@random", "torchvision:shufflenet_v2_x0_5@random"])
def test_preprocessing_travels_to_other_processes(photo: PIL.Image.Image, spec: str) -> None:
    preprocess = load_model(spec).preprocess
    assert torch.equal(pickle.loads(pickle.dumps(preprocess))(photo), preprocess(photo))
