"""Images per second of training each lab architecture: what precision and which kernel of attention are worth.

python benchmarks/train_speed.py [--threads 1] [--batch 128] [--steps 6] [--device cpu]
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F
from torch import nn

from seelike.models.architectures import build
from seelike.train.prepare import plain_attention

NETWORKS = {
    "vit": ("seelike_vit_lab", {}),
    "vit-gap": ("seelike_vit_lab", {"gap": True}),
    "resnet": ("seelike_resnet_lab", {}),
    "mixer": ("seelike_mixer_lab", {}),
    "pvt": ("seelike_pvt_lab", {}),
}


def speed(module: nn.Module, precision: str, batch: int, steps: int, device: torch.device) -> float:
    """Images per second of forward, backward and step, the first two steps left out."""
    module.to(device).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)
    images, labels = torch.randn(batch, 3, 32, 32, device=device), torch.randint(10, (batch,), device=device)
    for step in range(steps + 2):
        if step == 2:
            torch.cuda.synchronize() if device.type == "cuda" else None
            started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            outputs = module(images)
        optimizer.zero_grad()
        F.cross_entropy(outputs.float(), labels).backward()
        optimizer.step()
    torch.cuda.synchronize() if device.type == "cuda" else None
    return batch * steps / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| network | parameters | attention | fp32 | bf16 |\n|---|---|---|---|---|")
    for name, (architecture, options) in NETWORKS.items():
        kinds = ("fused", "plain") if "vit" in name else ("-",)
        for kind in kinds:
            module = build(architecture, options)
            if kind == "plain":
                plain_attention(module)
            rates = [
                speed(module, precision, arguments.batch, arguments.steps, torch.device(arguments.device))
                for precision in ("fp32", "bf16")
            ]
            size = sum(parameter.numel() for parameter in module.parameters()) / 1e6
            print(f"| {name} | {size:.2f} M | {kind} | {rates[0]:.0f} | {rates[1]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
