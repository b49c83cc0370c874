"""One sweep of images through models: plan, memory, state, and the sweep itself."""

from seelike.interrupts import Interrupted
from seelike.passes.memory import MemoryPlan
from seelike.passes.plan import PassOptions, PassPlan, make_plan
from seelike.passes.state import PassState, ids_hash, save_state, weights_hash
from seelike.passes.sweep import Pass, Progress, Silent

__all__ = [
    "Interrupted",
    "MemoryPlan",
    "Pass",
    "PassOptions",
    "PassPlan",
    "PassState",
    "Progress",
    "Silent",
    "ids_hash",
    "make_plan",
    "save_state",
    "weights_hash",
]
