"""Train the members of the zoo by their recipes and install them, two at a time with one thread each.

    python benchmarks/train_zoo.py vit-cls resnet ... [--data cifar10=parquet:DIR/{split}.parquet]

Runs go to runs/zoo/NAME. A run that was interrupted goes on from its checkpoint, a finished one is only installed, so
that the command can be given again at any time. Without names, all of them are made, in the order of MEMBERS.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from seelike.errors import SeelikeError
from seelike.models.zoo import Member, members
from seelike.train.install import install
from seelike.train.recipes import SHIPPED

MEMBERS = [
    *("vit-cls", "resnet", "vit-gap", "mixer"),
    *("vit-cls-10", "resnet-10", "mixer-10"),
    *("vit-cls-cifar10", "resnet-cifar10", "vit-gap-cifar10", "mixer-cifar10"),
    *("vit-cls-cut1", "vit-cls-cut6", "vit-cls-cut10"),
    *("deepvit", "pvt", "cpvt-gap", "vit-nopos", "hybrid", "vit-sincos"),
    *("resnet-3", "resnet-30", "resnet-seed1", "vit-cls-3", "vit-cls-30", "vit-cls-seed1"),
    *("vit-cls-to-texturesB", "resnet-to-texturesB", "vit-cls-to-cifar10", "resnet-to-cifar10"),
    *("vit-tiny", "vit-tiny-3", "vit-tiny-10", "vit-tiny-30", "vit-tiny-seed1"),
]
RUNS = Path("runs/zoo")
START, END = "<!-- accuracy: benchmarks/train_zoo.py --tell -->", "<!-- end -->"


def make(name: str, data: Sequence[str], threads: int, device: str) -> str:
    """Train one member in a process of its own, and install it."""
    folder = RUNS / name
    if not (folder / "summary.json").exists():
        command = [sys.executable, "-m", "seelike.cli", "train", name, "--out", str(folder), "--resume"]
        command += ["--device", device, *(part for pair in data for part in ("--data", pair))]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "output.log").open("a") as stream:
            done = subprocess.run(command, env=environment, stdout=stream, stderr=stream, check=False)
        if done.returncode:
            last = (folder / "output.log").read_text().strip().splitlines()[-1:]
            return f"{name}: failed, {last}"
    try:
        member = install(folder, name, data=data)
    except SeelikeError as error:
        return f"{name}: not installed, {error}"
    tell(name, member)
    return f"{name}: {100 * member.test_accuracy:.2f} % of {member.test_images}, {member.training_seconds:.0f} s"


def tell(name: str, member: Member) -> None:
    """Say in the recipe's first line what to expect of it."""
    recipe = SHIPPED / f"{name}.yaml"
    lines = [line for line in recipe.read_text().splitlines() if not line.startswith("#")]
    # Time on the clock is only a bound, since other work ran beside most of these trainings.
    minutes = max(1, round((member.cpu_seconds or member.training_seconds) / 60))
    time = f"{'' if member.cpu_seconds else 'at most '}{minutes} minutes on one CPU thread"
    expects = f"# {100 * member.test_accuracy:.1f} % of the test images right, {time}"
    recipe.write_text("\n".join([expects, *lines]) + "\n")


def accuracy_table(zoo: dict[str, Member]) -> str:
    """Test accuracy by architecture (rows) and what it was trained on (columns), as Markdown."""
    rows = {"ViT, CLS": "vit-cls", "ViT, GAP": "vit-gap", "ResNet": "resnet", "MLP-Mixer": "mixer"}
    rows |= {f"ViT without the skips of block {cut}": f"vit-cls-cut{cut}" for cut in (1, 6, 10)}
    rows |= {"ViT of 6 blocks": "vit-tiny", "DeepViT": "deepvit", "PVT": "pvt", "ViT, then CNN": "hybrid"}
    rows |= {
        "ViT, GAP, PEG (CPVT)": "cpvt-gap",
        "ViT, GAP, no positions": "vit-nopos",
        "ViT, GAP, sin-cos": "vit-sincos",
    }
    columns = {"scenes, 50,000": "", "seed 1": "-seed1", "15,000": "-30", "5,000": "-10", "1,500": "-3"}
    columns |= {"CIFAR-10, 48,000": "-cifar10"}
    lines = [f"| % right | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for title, name in rows.items():
        found = [zoo.get(name + suffix) for suffix in columns.values()]
        cells = [f"{100 * m.test_accuracy:.1f} ± {100 * error(m):.1f}" if m else "" for m in found]
        if any(cells):
            lines.append(f"| {title} (`{name}`) | {' | '.join(cells)} |")
    lines += ["", "| fine-tuned, % right of the new test images | scenes, other textures | CIFAR-10 |", "|---|---|---|"]
    for title, name in {"ViT, CLS": "vit-cls", "ResNet": "resnet"}.items():
        tuned = [zoo.get(f"{name}-to-{where}") for where in ("texturesB", "cifar10")]
        cells = [f"{100 * m.test_accuracy:.1f} ± {100 * error(m):.1f}" if m else "" for m in tuned]
        lines.append(f"| {title} (`{name}-to-texturesB`, `-to-cifar10`) | {' | '.join(cells)} |")
    return "\n".join(lines)


def error(member: Member) -> float:
    """Binomial standard error of a member's accuracy."""
    return math.sqrt(member.test_accuracy * (1 - member.test_accuracy) / member.test_images)


def fill(page: Path, table: str) -> None:
    """Put the table between its marks in a page."""
    before, _, rest = page.read_text().partition(START)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{START}\n{table}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=MEMBERS)
    parser.add_argument("--data", action="append", default=[], help="where data sets lie, NAME=SPEC")
    parser.add_argument("--parallel", type=int, default=2, help="runs side by side")
    parser.add_argument("--threads", type=int, default=1, help="threads of each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tell", action="store_true", help="only write the index into recipes and docs")
    arguments = parser.parse_args()
    if arguments.tell:
        for name, member in members().items():
            tell(name, member)
        fill(Path("docs/zoo.md"), accuracy_table(members()))
        return
    with ThreadPoolExecutor(arguments.parallel) as pool:
        runs = [pool.submit(make, n, arguments.data, arguments.threads, arguments.device) for n in arguments.names]
        for run in runs:
            print(run.result(), flush=True)


if __name__ == "__main__":
    main()
