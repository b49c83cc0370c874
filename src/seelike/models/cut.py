"""A trained model with the skips of one block cut, to be evaluated like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from seelike.models.model import Model

if TYPE_CHECKING:
    from seelike.anatomy import Anatomy
    from seelike.anatomy.cut import Sublayers


def cut_model(model: Model, block: int, sublayers: Sublayers = "both") -> Model:
    """Return `model` without the skips of one block; weights are shared and nothing is trained again.

    Args:
        model: any model with residual sums.
        block: which one, counted from 0 in execution order (`model.anatomy.blocks`).
        sublayers: ``both`` for every skip of the block, ``attention`` or ``mlp`` for one.

    Raises:
        SeelikeError: a block that does not exist, or that has no such skip.
    """
    return CutModel(model, block, sublayers)


class CutModel(Model):
    """See `cut_model`. Named ``NAME-cut7``, ``NAME-cut7-mlp``."""

    def __init__(self, model: Model, block: int, sublayers: Sublayers = "both") -> None:
        module = _CutModule(model, block, sublayers)
        only = "" if sublayers == "both" else f"-{sublayers}"
        super().__init__(
            module,
            model.input_size,
            f"{model.name}-cut{block}{only}",
            preprocess=model.preprocess,
            preprocess_note=model.preprocess_note,
            spec=model.spec,
            provenance=model.provenance | {"cut_block": block, "cut_sublayers": sublayers},
            input_name=model.input_name,
            layout=model.layout,
        )
        self._cut = module

    def _read_anatomy(self) -> Anatomy:
        return self._cut.anatomy()  # with the names of the model as it was


class _CutModule(nn.Module):
    """Runs the edited graph; the module inside holds the weights."""

    def __init__(self, model: Model, block: int, sublayers: Sublayers) -> None:
        super().__init__()
        self.whole = model.module
        self._model = model
        self._choice: tuple[int, Sublayers] = (block, sublayers)
        self._made: tuple[Anatomy, Anatomy] | None = None
        self.anatomy()  # errors now, not at the first batch

    def anatomy(self) -> Anatomy:
        """The cut anatomy, made anew when that of the whole model was (on another device)."""
        from seelike.anatomy.cut import cut_skips  # heavy, and only needed here

        whole = self._model.anatomy
        if self._made is None or self._made[0] is not whole:
            self._made = (whole, cut_skips(whole, *self._choice))
        return self._made[1]

    def forward(self, *images: Any, **inputs: Any) -> Any:
        anatomy = self.anatomy()
        return anatomy.run(inputs or anatomy.inputs(*images), {}, keep=False)
