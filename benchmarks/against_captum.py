"""How long do the strongest units of every VGG16 convolution take, against captum unit by unit?

    python benchmarks/against_captum.py [--json FILE]

Both run in this process, in turns, on the same random-weight VGG16 and picture (weights do not
change the work). captum's `NeuronDeconvolution` has one price per unit of a place: its median over
a few units is multiplied by the channels. Ours is the whole call, forward pass included.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from pathlib import Path

import torch
from torchvision.models import vgg16

import unconv

CONVS = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]


def seconds(work, times: int) -> float:
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def captum_unit(model, image, index: int):
    from captum.attr import NeuronDeconvolution

    attribution = NeuronDeconvolution(model, model.features[index + 1])
    with torch.no_grad():
        activation = model.features[: index + 2](image)[0]

    def run(channel: int = 0) -> torch.Tensor:
        y, x = divmod(int(activation[channel].argmax()), activation.shape[2])
        return attribution.attribute(image.clone().requires_grad_(True), (channel, y, x))

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--times", type=int, default=3, help="calls of ours per place, and units of captum's")
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--ours-only", action="store_true", help="for the peak memory of ours alone")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = vgg16(weights=None).eval()
    for layer in model.features:
        if isinstance(layer, torch.nn.ReLU):
            layer.inplace = False  # captum's hooks want it so; ours does not mind either way
    image = torch.randn(1, 3, 224, 224)
    network = unconv.Network(model)
    rows = []
    for index in CONVS[arguments.skip:]:
        place = f"features.{index + 1}"
        channels = model.features[index].out_channels
        ours = seconds(lambda place=place: network.project(image, place), arguments.times)
        row = {"place": place, "channels": channels, "ours": ours}
        if not arguments.ours_only:
            row["captum_unit"] = seconds(captum_unit(model, image, index), arguments.times)
            row["captum"] = row["captum_unit"] * channels
            row["ratio"] = row["captum"] / ours
        rows.append(row)
        print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
    total = {"ours": sum(row["ours"] for row in rows)}
    if not arguments.ours_only:
        total["captum"] = sum(row["captum"] for row in rows)
        total["ratio"] = total["captum"] / total["ours"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    facts = {"rows": rows, "total": total, "peak_gib": peak, "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({"total": total, "peak_gib": round(peak, 2), "threads": facts["threads"]}))
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
