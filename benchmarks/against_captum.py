"""How long do all units of VGG16's convolutions take, against captum unit by unit and against the machine's limit?

    python benchmarks/against_captum.py [--unit map --channels 24] [--dtype float32 --dtype bfloat16] [--json FILE]

All runs in this process, in turns, on the same random-weight VGG16 and picture (weights do not change
the work). captum's `NeuronDeconvolution` has one price per unit of a place: its median over a few units
is multiplied by the channels. Ours is the whole call, forward pass included; with `--channels` fewer are
run, and the price of one, less the forward pass, is multiplied. The limit is the floating-point operations of the
units' windows, counted as direct convolutions, over the rate that torch's own convolutions reach in this run.
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
from unconv.reverse.walking.cost import convolution_rate

CONVS = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]


def seconds(times: int, work, *arguments, **named) -> float:
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        work(*arguments, **named)
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def captum_unit(model, image, index: int, unit: str):
    from captum.attr import NeuronDeconvolution

    attribution = NeuronDeconvolution(model, model.features[index + 1])
    with torch.no_grad():
        activation = model.features[: index + 2](image)[0]

    def run(channel: int = 0) -> torch.Tensor:
        y, x = divmod(int(activation[channel].argmax()), activation.shape[2])
        chosen = (channel, slice(None), slice(None)) if unit == "map" else (channel, y, x)
        return attribution.attribute(image.clone().requires_grad_(True), chosen)

    return run


def exactness(network, image, place: str, dtype: str, unit: str) -> dict[str, float]:
    """Differences from the way back in float64, of four units, as a share of each one's largest value."""
    recording = network.record(image, [place])
    chosen = [0, 21, 42, 63]
    pairs = zip(*(recording.project(place, chosen, unit, dtype=d).windows for d in (dtype, "float64")), strict=True)
    shares = [(mine - right).abs() / right.abs().max() for mine, right in pairs]
    return {"largest": max(float(s.max()) for s in shares), "rms": max(float(s.square().mean().sqrt()) for s in shares)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--unit", default="strongest", choices=["strongest", "map"])
    parser.add_argument("--channels", type=int, help="of each place; the others at the same price")
    parser.add_argument("--dtype", action="append", help="of the way back, may be repeated; float32")
    parser.add_argument("--times", type=int, default=3, help="calls of ours per place, and units of captum's")
    parser.add_argument("--ours-only", action="store_true", help="for the peak memory of ours alone")
    arguments = parser.parse_args()
    dtypes = arguments.dtype or ["float32"]
    torch.manual_seed(0)
    model = vgg16(weights=None).eval()
    for layer in model.features:
        if isinstance(layer, torch.nn.ReLU):
            layer.inplace = False  # captum's hooks want it so; ours does not mind either way
    image = torch.randn(1, 3, 224, 224)
    network = unconv.Network(model)
    limits = {d: convolution_rate(getattr(torch, d), torch.device("cpu")) for d in dtypes}
    rows = []
    for index in CONVS:
        place = f"features.{index + 1}"
        channels = model.features[index].out_channels
        count = min(arguments.channels or channels, channels)
        recording = network.record(image, [place])
        once = seconds(arguments.times, network.record, image, [place]) if count < channels else 0.0
        operations = float(recording.units(place, range(count), arguments.unit).operations.sum()) * channels / count
        row = {"place": place, "channels": channels, "tflop": operations / 1e12}
        for d in dtypes:
            spent = seconds(arguments.times, network.project, image, place, range(count), arguments.unit, dtype=d)
            row[d] = once + (spent - once) * channels / count
            row[f"{d}_of_limit"] = operations / limits[d] / row[d]
            if not arguments.ours_only:
                row[f"{d}_error"] = exactness(network, image, place, d, arguments.unit)
        if not arguments.ours_only:
            row["captum_unit"] = seconds(arguments.times, captum_unit(model, image, index, arguments.unit))
            row["captum"] = row["captum_unit"] * channels
            row |= {f"{d}_faster": row["captum"] / row[d] for d in dtypes}
        rows.append(row)
        print(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
    total = {key: sum(row[key] for row in rows) for key in ("tflop", *dtypes, *([] if arguments.ours_only else ["captum"]))}
    for d in dtypes:
        total[f"{d}_of_limit"] = total["tflop"] * 1e12 / limits[d] / total[d]
        if not arguments.ours_only:
            total[f"{d}_faster"] = total["captum"] / total[d]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    facts = {"rows": rows, "total": total, "limits": limits, "peak_gib": peak, "torch": torch.__version__}
    print(json.dumps({key: facts[key] for key in ("total", "limits", "peak_gib")}))
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
