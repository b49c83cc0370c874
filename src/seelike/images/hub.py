"""`hf:NAME[/SPLIT]`: a dataset of the Hugging Face hub, or a folder that holds one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seelike.errors import SeelikeError, close_matches
from seelike.images.files import existing
from seelike.images.quiet import quiet
from seelike.images.source import Images
from seelike.images.tables import TableImages

# Where a spec names no split: what studies are run on by custom.
_PREFERRED = ("validation", "val", "valid", "test")
# 'a/b' is a dataset of user a unless b is a usual name of a split.
_USUAL = {*_PREFERRED, "train", "training", "dev", "eval"}


def load_hub(rest: str) -> Images:
    """One split of a dataset; ids are ``name/split:row``.

    NAME is `mnist`, `ylecun/mnist`, or a local folder: a clone of a hub repository, or what
    `Dataset.save_to_disk` wrote. Without SPLIT: the only split, else validation or test, whichever there is.

    Raises:
        SeelikeError: when the hub cannot be reached (with the ways out), the dataset or the split does not
            exist (splits are listed), or no column holds images.
    """
    place, split = _parse(rest)
    try:
        with quiet():
            table, split = _open(place, split)
    except SeelikeError:
        raise
    except Exception as error:  # builders, the hub and the file system have no exception in common
        raise _explain(place, error) from error
    short = place.resolve().name if isinstance(place, Path) else place
    where = f"{short}/{split}" if split else short
    name = f"hf:{place}/{split}" if split else f"hf:{place}"
    return TableImages(table, name, [f"{where}:{row}" for row in range(len(table))])


def _parse(rest: str) -> tuple[str | Path, str | None]:
    """Tell name and split apart; a local folder wins over the hub, as in `datasets.load_dataset`."""
    whole = Path(rest).expanduser()
    if (whole.parent / "dataset_dict.json").exists():  # `save_to_disk` makes a folder of each split
        return whole.parent, whole.name
    if whole.is_dir():
        return whole, None
    head, _, tail = rest.rpartition("/")
    if head.strip("./~") and Path(head).expanduser().is_dir():
        return Path(head).expanduser(), tail
    if rest.startswith((".", "/", "~")):
        existing(rest)
    parts = rest.strip("/").split("/")
    if not parts[0] or len(parts) > 3:
        raise SeelikeError(f"'hf:{rest}' is not hf:NAME[/SPLIT], for example hf:ylecun/mnist/test")
    if len(parts) == 3 or (len(parts) == 2 and parts[1].split("[")[0] in _USUAL):
        return "/".join(parts[:-1]), parts[-1]
    return "/".join(parts), None


def _open(place: str | Path, split: str | None) -> tuple[Any, str | None]:
    import datasets

    if isinstance(place, Path) and any((place / f).exists() for f in ("dataset_dict.json", "state.json")):
        saved = datasets.load_from_disk(str(place))
        if not isinstance(saved, dict):
            if split:
                raise SeelikeError(f"'{place}' holds one dataset without splits; leave out '/{split}'")
            return saved, None
        split = _choose(str(place), split, list(saved))
        return saved[split], split
    split = _choose(str(place), split, datasets.get_dataset_split_names(str(place)))
    return datasets.load_dataset(str(place), split=split), split


def _choose(name: str, wanted: str | None, splits: list[str]) -> str:
    listed = ", ".join(splits)
    if wanted is None:
        usual = splits if len(splits) == 1 else [split for split in _PREFERRED if split in splits]
        if not usual:
            raise SeelikeError(f"'{name}' has the splits {listed}; say which: hf:{name}/{splits[0]}")
        return usual[0]
    if wanted.split("[")[0] not in splits:
        hint = close_matches(wanted, splits)
        raise SeelikeError(f"'{name}' has no split '{wanted}'{hint}; its splits are: {listed}")
    return wanted


def _explain(place: str | Path, error: Exception) -> SeelikeError:
    import datasets

    said = (str(error).strip().splitlines() or [repr(error)])[0]
    if isinstance(place, Path):
        return SeelikeError(
            f"the folder '{place}' cannot be read as a dataset: {said} (for its files alone: parquet:{place})"
        )
    if isinstance(error, datasets.exceptions.DatasetNotFoundError):
        return SeelikeError(
            f"there is no dataset '{place}' on the hub, or it is private or gated: check the name, or log in "
            f"with `hf auth login`."
        )
    if isinstance(error, ConnectionError) or "onnect" in type(error).__name__:
        return SeelikeError(
            f"the Hugging Face hub cannot be reached for '{place}', and no copy is in the cache: check the "
            f"network, unset HF_HUB_OFFLINE if it is set, or download the dataset elsewhere and give its "
            f"folder (hf:DIR/SPLIT) or files (parquet:FILES). ({said})"
        )
    return SeelikeError(
        f"the dataset '{place}' cannot be loaded: {str(error).strip()[:600] or repr(error)}. If it needs "
        f"options, load it with datasets.load_dataset(...) and pass the Dataset in Python."
    )
