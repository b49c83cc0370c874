from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seelike.errors import SeelikeError
from seelike.images import BadImage, load_images


def test_bytes_or_structs(write_parquet: Callable[..., Path], encoded: Callable[..., bytes], pixels) -> None:
    content = [encoded(number) for number in range(3)]
    plain = write_parquet("plain.parquet", image=content, label=[2, 0, 1], note=["x"] * 3)
    struct = write_parquet("struct.parquet", image=[{"bytes": c, "path": None} for c in content], label=[2, 0, 1])
    for path in (plain, struct):
        images = load_images(f"parquet:{path}")
        assert list(images.ids) == [f"{path.name}:{row}" for row in range(3)]
        assert images.labels == [2, 0, 1]
        assert np.array_equal(np.asarray(images.read(1)), pixels(1))


def test_several_files(
    write_parquet: Callable[..., Path], encoded: Callable[..., bytes], tmp_path: Path, pixels
) -> None:
    for part in range(3):
        write_parquet(f"p-{part:02d}.parquet", image=[encoded(2 * part), encoded(2 * part + 1)], label=[part, part])
    specs = [
        "p-*.parquet",
        "p-{00..02}.parquet",
        "p-{00,01,02}.parquet",
        f"p-00.parquet,{tmp_path}/p-01.parquet,{tmp_path}/p-02.parquet",
        "",
    ]
    for spec in specs:
        images = load_images(f"parquet:{tmp_path}/{spec}")
        assert list(images.ids)[::2] == ["p-00.parquet:0", "p-01.parquet:0", "p-02.parquet:0"]
        assert images.labels == [0, 0, 1, 1, 2, 2]
        assert np.array_equal(np.asarray(images.read(5)), pixels(5))
    backwards = load_images(f"parquet:{tmp_path}/p-01.parquet,{tmp_path}/p-00.parquet")
    assert backwards.ids[0] == "p-01.parquet:0"
    assert np.array_equal(np.asarray(backwards.read(0)), pixels(2))


def test_same_file_name_in_two_folders(
    write_parquet: Callable[..., Path], encoded: Callable[..., bytes], tmp_path: Path
) -> None:
    for where in ("a", "b"):
        write_parquet(f"{where}/x.parquet", image=[encoded(0)])
    images = load_images(f"parquet:{tmp_path}/*/x.parquet")
    assert list(images.ids) == ["a/x.parquet:0", "b/x.parquet:0"]


def test_glob_signs_in_a_path(write_parquet: Callable[..., Path], encoded: Callable[..., bytes]) -> None:
    path = write_parquet("odd[1]{a,b}/x*.parquet", image=[encoded(0)])
    assert load_images(f"parquet:{path}").ids == ["x*.parquet:0"]


def test_a_replaced_file_is_read_anew(
    write_parquet: Callable[..., Path], encoded: Callable[..., bytes], pixels
) -> None:
    path = write_parquet("a.parquet", image=[encoded(0)])
    load_images(f"parquet:{path}")
    write_parquet("a.parquet", image=[encoded(1)])
    assert np.array_equal(np.asarray(load_images(f"parquet:{path}").read(0)), pixels(1))


def test_class_names_that_occur_twice(tmp_path: Path, encoded: Callable[..., bytes]) -> None:
    # ImageNet has two cranes; `datasets` refuses such a file.
    names = ["crane", "crane", "dog"]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table({"image": [{"bytes": encoded(0), "path": None}], "label": [1]})
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    images = load_images(f"parquet:{tmp_path / 'a.parquet'}")
    assert images.class_names == ["crane", "crane (1)", "dog"]
    assert images.labels == [1]


def test_odd_metadata_is_passed_over(tmp_path: Path, encoded: Callable[..., bytes]) -> None:
    table = pa.table({"image": [encoded(0)]}).replace_schema_metadata({b"huggingface": b"{]"})
    pq.write_table(table, tmp_path / "a.parquet")
    assert load_images(f"parquet:{tmp_path / 'a.parquet'}").read(0).size == (16, 12)


def test_text_labels_are_numbered(write_parquet: Callable[..., Path], encoded: Callable[..., bytes]) -> None:
    images = load_images(f"parquet:{write_parquet('a.parquet', image=[encoded(0)] * 3, label=['b', 'a', 'b'])}")
    assert images.labels == [1, 0, 1]
    assert images.class_names == ["a", "b"]


def test_a_missing_label_means_no_labels(write_parquet: Callable[..., Path], encoded: Callable[..., bytes]) -> None:
    images = load_images(f"parquet:{write_parquet('a.parquet', image=[encoded(0)] * 2, label=[1, None])}")
    assert images.labels is None


def test_bad_cells_are_named(write_parquet: Callable[..., Path], encoded: Callable[..., bytes]) -> None:
    images = load_images(f"parquet:{write_parquet('a.parquet', image=[encoded(0), encoded(1)[:60], b'', None])}")
    assert images.read(0).size == (16, 12)
    for row, said in ((1, "a.parquet:1"), (2, "a.parquet:2.*0 bytes"), (3, "a.parquet:3.*cell is empty")):
        with pytest.raises(BadImage, match=said):
            images.read(row)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_truncated(share: float, write_parquet: Callable[..., Path], encoded: Callable[..., bytes]) -> None:
    good = write_parquet("good.parquet", image=[encoded(0)] * 50)
    path = good.with_name("short.parquet")
    path.write_bytes(good.read_bytes()[: int(share * good.stat().st_size)])
    with pytest.raises(SeelikeError, match=r"short\.parquet.*not a whole Parquet file"):
        load_images(f"parquet:{good},{path}")


def test_damaged_inside(write_parquet: Callable[..., Path], encoded: Callable[..., bytes], capfd) -> None:
    good = write_parquet("good.parquet", image=[encoded(0)])
    path = write_parquet("hurt.parquet", image=[encoded(number) for number in range(50)])
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56
    path.write_bytes(content)
    with pytest.raises(SeelikeError, match=r"hurt\.parquet' is damaged"):
        load_images(f"parquet:{good},{path}")
    assert capfd.readouterr().err == ""  # the library's own log line would be a second, unclear voice


def test_no_image_column(write_parquet: Callable[..., Path], encoded: Callable[..., bytes]) -> None:
    path = write_parquet("a.parquet", text=["x"], label=[1])
    with pytest.raises(SeelikeError, match=r"a\.parquet' has no image column.*text \(string\), label \(int64\)"):
        load_images(f"parquet:{path}")
    two = write_parquet("two.parquet", left=[encoded(0)], right=[encoded(0)])
    with pytest.raises(SeelikeError, match=r"left \(binary\), right \(binary\)"):
        load_images(f"parquet:{two}")


def test_the_only_binary_column_will_do(write_parquet: Callable[..., Path], encoded: Callable[..., bytes]) -> None:
    path = write_parquet("a.parquet", scan=[encoded(0)], caption=["x"])
    assert load_images(f"parquet:{path}").read(0).size == (16, 12)


def test_columns_that_differ(write_parquet: Callable[..., Path], encoded: Callable[..., bytes]) -> None:
    first = write_parquet("a.parquet", image=[encoded(0)], label=[1])
    with pytest.raises(SeelikeError, match=r"b\.parquet' has no column 'label'.*columns are: image"):
        load_images(f"parquet:{first},{write_parquet('b.parquet', image=[encoded(0)])}")
    with pytest.raises(SeelikeError, match=r"'label' is string in '.*c\.parquet' but int64 in '.*a\.parquet'"):
        load_images(f"parquet:{first},{write_parquet('c.parquet', image=[encoded(0)], label=['x'])}")


def test_missing_and_empty(write_parquet: Callable[..., Path], encoded: Callable[..., bytes], tmp_path: Path) -> None:
    write_parquet("train.parquet", image=pa.array([], pa.binary()))
    with pytest.raises(SeelikeError, match=r"did you mean train\.parquet"):
        load_images(f"parquet:{tmp_path}/trian.parquet")
    with pytest.raises(SeelikeError, match=r"no file matches '.*x\*\.parquet'"):
        load_images(f"parquet:{tmp_path}/x*.parquet")
    with pytest.raises(SeelikeError, match="holds no rows"):
        load_images(f"parquet:{tmp_path}/train.parquet")
    write_parquet("test.parquet", image=[encoded(0)])
    images = load_images(f"parquet:{tmp_path}/train.parquet,{tmp_path}/test.parquet")
    assert list(images.ids) == ["test.parquet:0"]


def test_a_cache_that_cannot_be_written(
    write_parquet: Callable[..., Path], encoded, tmp_path: Path, monkeypatch
) -> None:
    path = write_parquet("a.parquet", image=[encoded(0)])
    (tmp_path / "file").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file" / "cache")
    with pytest.raises(SeelikeError, match=r"could not be put into the cache.*set HF_DATASETS_CACHE"):
        load_images(f"parquet:{path}")


def test_building_is_silent_and_leaves_the_settings(write_parquet: Callable[..., Path], encoded, capfd) -> None:
    datasets.enable_progress_bars()
    verbosity = datasets.logging.get_verbosity()
    load_images(f"parquet:{write_parquet('a.parquet', image=[encoded(0)] * 9)}")
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()
    assert datasets.logging.get_verbosity() == verbosity
