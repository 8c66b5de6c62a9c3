"""Write docs/networks.md and the tables of its Chinese twin: `python docs/write_networks.py`. This takes an hour.

Results are cached in the temporary folder, so that a second run measures only models that are missing there.
`python docs/write_networks.py PATTERN` measures the models whose names match PATTERN, even if cached, and no others.
"""

from __future__ import annotations

import gc
import json
import math
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

import unconv
from unconv.errors import UnconvError

CACHE = Path(tempfile.gettempdir()) / "unconv-networks"
OWN = {"models": (3, 224, 224), "detection": (3, 320, 320), "optical_flow": (3, 128, 128), "video": (3, 16, 224, 224)}
_VARIANT = re.compile(r"_(tiny|small|base|large|[tsbhlm])(?=_|$)|\d+[gm]f|[\d_]|.*(?=.backbone)")
HEAD = """# Networks

[中文](networks.zh-CN.md)

These are the results of `Network.check` for the architectures of torchvision and at least one architecture of every module of
timm. The weights are random and the input is noise: 64 × 64 samples (video: 8 frames), 96 × 96 if that is too small, or the
model's own size if it accepts no other. Variants with the same verdict share a row, and their counts are given as a range. To
check your own network, run `unconv check MODEL` or `unconv.Network(module).check()`.

- **places**: maps with a name. **rectifiers**: ReLU is treated as in the paper. The paper does not cover other rectifiers;
  `activations` chooses their rule.
- **frozen**: gates frozen at their recorded value, and the scale of norms that take their statistics from the picture.
- **deconvnet**: "yes": every place can be projected, and every law holds. "gradient only": every place can be projected with
  `method="gradient"`, but with deconvnet only those up to the named place. "no": neither method reaches every place (the
  named place is the last that the gradient reaches), or the model cannot be recorded.
- **error**: the largest error of all laws (the gradient equals autograd's, windows equal the full walk, zeros give zeros,
  nothing arrives outside the receptive field, the model is unchanged), relative to the largest value and rounded up to a
  power of ten, at least 1e-12. It is computed in float64, or in float32 if part of the model runs in no other type.

Complete detectors resize and batch pictures themselves; their convolutions are in their backbones, NAME.backbone.
"""
TITLES = {
    "models": "torchvision: classification",
    "quantization": "torchvision: quantizable, in floating point",
    "segmentation": "torchvision: segmentation",
    "detection": "torchvision: detection",
    "video": "torchvision: video",
    "optical_flow": "torchvision: optical flow",
    "timm": "timm, at least one of every module",
}
# The words of the tables in Chinese: entire lines first, then clauses; {} is copied unchanged.
CHINESE = [
    ("| model | places | rectifiers | frozen | deconvnet | error |", "| 模型 | 位置 | 整流器 | 冻结 | 反卷积网络 | 误差 |"),
    ("## torchvision: classification", "## torchvision：分类"),
    ("## torchvision: quantizable, in floating point", "## torchvision：可量化的网络，以浮点运行"),
    ("## torchvision: segmentation", "## torchvision：分割"),
    ("## torchvision: detection", "## torchvision：检测"),
    ("## torchvision: video", "## torchvision：视频"),
    ("## torchvision: optical flow", "## torchvision：光流"),
    ("## timm, at least one of every module", "## timm：每个模块至少一种"),
    ("Not run, for their size: {}.", "因太大而没有运行：{}。"),
    ("Written by {} with {}.", "由 {} 写成，使用 {}。"),
    ("| yes |", "| 可以 |"),
    ("| gradient only, up to {}: ", "| 仅 gradient；deconvnet 到 {} 为止："),
    ("| gradient only, ", "| 仅 gradient："),
    ("| no, up to {}: ", "| 不可以；gradient 到 {} 为止："),
    ("| no, ", "| 不可以："),
    ("| no: ", "| 不可以："),
    ("{} is a matrix product of two signals, as in self-attention", "{} 是两个信号的矩阵乘积，如同自注意力"),
    ("{} multiplies two signals and neither is a gate", "{} 把两个信号相乘，两者都不是门"),
    ("no reverse rule for {}: ", "{} 没有反向规则："),
    ("self-attention mixes positions by weights that the picture makes", "自注意力按图片自身算出的权重混合各个位置"),
    ("no reverse rule for {} |", "{} 没有反向规则 |"),
    ("{} wrote in place through a view, and {} reads the memory under it", "{} 通过视图就地写入，而 {} 读取它下面的内存"),
    ("{} gates", "{} 个门"),
    ("{} gate", "{} 个门"),
    ("{} norms", "{} 个归一化"),
    ("{} norm", "{} 个归一化"),
]
TIMM = """
resnet10t seresnext26d_32x4d ecaresnet26t resnetblur18 resnetv2_18 resnetv2_50x1_bit resnetv2_50d_frn resnetv2_50d_evos
skresnet18 legacy_seresnet18 resnest14d res2next50 res2net50_14w_8s vgg11 densenet121 rdnet_tiny dla46x_c dpn48b
hrnet_w18_small inception_v3 inception_v4 inception_resnet_v2 legacy_xception xception41 nasnetalarge pnasnet5large
cs3darknet_s cspresnet50 darknet53 cspnext_tiny regnetx_002 regnety_002 regnetz_b16 tresnet_m ese_vovnet19b_slim_dw vovnet39a
selecsls42 mobileone_s0 repvgg_a0 gernet_s nf_regnet_b0 eca_nfnet_l0 nf_resnet26 efficientnet_b0 efficientnet_b0_gn
mobilenetv2_050 mobilenetv4_conv_small_050 mnasnet_small mixnet_s mobilenetv3_small_050 mobilenetv5_base lcnet_035 tinynet_e
hardcorenas_b lcnetv2_small ghostnet_050 ghostnetv3_050 repghostnet_050 rexnet_100 hgnetv2_b0 fasternet_t0 starnet_s050
repvit_m1 convnext_atto convnext_atto_ols convnextv2_atto inception_next_atto convmixer_768_32 mambaout_femto focalnet_tiny_srf
csatv2 poolformer_s12 convformer_s18 caformer_s18 fastvit_t8 edgenext_xx_small shvit_s1 swiftformer_xs visformer_tiny
efficientformer_l1 efficientformerv2_s0 efficientvim_m1 efficientvit_b0 efficientvit_m0 lowformer_b0 cpubone_nano iformer_t
mobilevit_xxs mobilevitv2_050 nextvit_small halonet_h1 eca_botnext26ts_256 lambda_resnet26t coatnet_pico_rw_224
maxvit_pico_rw_256 gmlp_ti16_224 gmixer_12_224 resmlp_12_224 mixer_s32_224 sequencer2d_s deit_tiny_patch16_224
vit_tiny_patch16_224 vit_tiny_r_s16_p8_224 vit_srelpos_small_patch16_224 levit_128s pit_ti_224 tiny_vit_5m_224
xcit_nano_12_p16_224 pvt_v2_b0 coat_lite_tiny convit_tiny cait_xxs24_224 crossvit_tiny_240 davit_tiny eva02_tiny_patch14_224
gcvit_xxtiny hiera_tiny_224 hieradet_small mvitv2_tiny nest_tiny swin_tiny_patch4_window7_224 swinv2_tiny_window8_256
swinv2_cr_tiny_224 tnt_s_patch16_224 twins_svt_small vitamin_small_224 volo_d1_224 beit_base_patch16_224
naflexvit_base_patch16_gap qwen3_vit_88m samvit_base_patch16_224 deepseek_vit_412m gemma4_vit_167m
""".split()


def groups() -> dict[str, list[str]]:
    """Return the models to measure, by source; `NAME.backbone` is a part of a model."""
    models: dict[str, list[str]] = {title: [] for title in TITLES}
    for name in torchvision.models.list_models():
        source = torchvision.models.get_model_builder(name).__module__.split(".")[2]
        models[source if source in TITLES else "models"].append(name)
    models["detection"] += [f"{name}.backbone" for name in models["detection"]]
    models["timm"] = [f"timm:{name}" for name in TIMM]
    return models


def measured(name: str, source: str) -> dict[str, Any]:
    """Return the results of `check` for one model on the smallest image that it accepts; an error becomes the verdict."""
    result: dict[str, Any] = {}
    for size in [*([(3, 8, 64, 64)] if source == "video" else [(3, 64, 64), (3, 96, 96)]), OWN.get(source)]:
        try:
            return _results(_network(name, source, size))
        except Exception as error:  # a bug should be visible in its row as well
            print(f"{name}, {size}: {type(error).__name__}: {error}", file=sys.stderr)
            kind = "no" if isinstance(error, UnconvError) else f"error: {type(error).__name__}"
            result = {"verdict": f"{kind}: {_short(str(error))}"}
    return result


def _network(name: str, source: str, size: tuple[int, ...] | None) -> unconv.Network:
    torch.manual_seed(0)
    model, _, part = name.partition(".")
    opened = unconv.load(model if ":" in model else f"torchvision:{model}", input_size=size)
    module = _randomised(getattr(opened.module, part) if part else opened.module)
    two = {"argument": "image1", "others": {"image2": torch.randn(1, *opened.input_size)}} if source == "optical_flow" else {}
    return unconv.Network(module, input_size=opened.input_size, **two)


@torch.no_grad()
def _randomised(module: nn.Module) -> nn.Module:
    """Return the module with random numbers for parameters of all zeros or all ones, which would hide what precedes."""
    for parameter in module.parameters():
        if parameter.is_floating_point() and parameter.numel() and parameter.min() == parameter.max():
            parameter.normal_()
    return module


def _results(network: unconv.Network) -> dict[str, Any]:
    coverage = network.check()
    return {
        "places": coverage.places[0],
        "rectifiers": dict(coverage.rectifiers),
        "frozen": {re.split(" that |,", kind)[0]: len(places) for kind, places in coverage.frozen.items()},
        "verdict": "yes" if coverage.reversible else _refused(network, coverage),
        "laws": {law.name: law.error for law in coverage.laws},
    }


def _refused(network: unconv.Network, coverage: unconv.Coverage) -> str:
    """Return how far the walk gets and why no further, and whether the gradient gets further."""
    gradient = network.check(method="gradient")
    broken = [law.name for checked in (coverage, gradient) for law in checked.laws if not law.holds]
    if broken:
        return f"error: {broken[0]} does not hold"
    upto, reason = re.findall(
        r"can be projected(?:, the last is (\S+))?\. Why: (.*)", (coverage if gradient.reversible else gradient).verdict
    )[0]
    return f"{'gradient only' if gradient.reversible else 'no'}, {f'up to `{upto}`: ' if upto else ''}{_short(reason)}"


def _short(reason: str) -> str:
    """Return the first clause of a reason, without the remedy, with names as code."""
    clause = re.split(r", which |, so that |; |\. |\n", reason.removeprefix("record: "))[0]
    clause = re.sub(r" \(at [^)]*\)", "", clause).replace("|", "/")
    return re.sub(r"(?<![`\w])([\w-]+\.[\w.-]*\w)", r"`\1`", clause[:1].lower() + clause[1:])


def table(models: dict[str, dict[str, Any]]) -> str:
    """Return a table with one row for each family and verdict; reversible ones first."""
    rows: dict[tuple[str, ...], list[tuple[str, dict[str, Any]]]] = {}
    for name, result in models.items():
        kinds = [*result.get("rectifiers", ()), "frozen", *result.get("frozen", ())]
        family = name if name.startswith("timm:") else _VARIANT.sub("", name) if "places" in result else ""
        rows.setdefault((family, result["verdict"], *kinds), []).append((name, result))
    order = ["yes", "gradient only", "no", "error"]
    ranked = sorted(rows.values(), key=lambda row: order.index(re.split(r"[,:]", row[0][1]["verdict"])[0]))
    named = [(" ".join(f"`{name}`" for name, _ in row), [result for _, result in row]) for row in ranked]
    head = ["| model | places | rectifiers | frozen | deconvnet | error |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *(f"| {names} | {' | '.join(cells(group))} |" for names, group in named)])


def cells(group: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the cells of a row after the names of its models."""
    yield _range([result.get("places") for result in group])
    for column in ("rectifiers", "frozen"):
        counts = [result.get(column, {}) for result in group]
        ranges = {kind: _range([count[kind] for count in counts]) for kind in counts[0]}
        yield ", ".join(f"{count} {kind.removesuffix('s') if count == '1' else kind}" for kind, count in ranges.items())
    yield group[0]["verdict"]
    errors = [error for result in group for error in result.get("laws", {}).values() if len(result["laws"]) > 1]
    yield f"< 1e{max(-12, math.floor(math.log10(max(*errors, 1e-99))) + 1)}" if errors else ""


def _range(counts: list[int | None]) -> str:
    return "–".join(str(count) for count in sorted({min(counts), max(counts)})) if None not in counts else ""


def page() -> str:
    """Return the entire page from the cached results."""
    parts = [HEAD]
    for source, names in groups().items():
        known = {name: json.loads(_cached(name).read_text()) for name in names if _cached(name).exists()}
        left = ", ".join(f"`{name}`" for name in names if name not in known)
        parts.append(f"## {TITLES[source]}\n\n{table(known)}\n" + (f"\nNot run, for their size: {left}.\n" if left else ""))
    libraries = ", ".join(f"{name} {version(name).split('+')[0]}" for name in ("unconv", "torch", "torchvision", "timm"))
    return "\n".join([*parts, f"Written by `docs/write_networks.py` with {libraries}, Python {platform.python_version()}.\n"])


def chinese(page: str, english: str) -> str:
    """Return the page in Chinese: its own introduction, and the rest translated from the English page."""
    tables = english[english.index("\n## ") :]
    for ours, theirs in CHINESE:
        pattern = re.escape(ours).replace(r"\{\}", r"(`[^`]*`(?:, `[^`]*`)*|\d+(?:–\d+)?|unconv [^\n]*\d)")
        parts = iter(range(1, ours.count("{}") + 1))
        tables = re.sub(pattern, re.sub(r"\{\}", lambda _, parts=parts: rf"\{next(parts)}", theirs), tables)
    return page[: page.index("\n## ")] + _punctuated(tables)


def _punctuated(tables: str) -> str:
    """Return the tables with Chinese commas between the items of lists."""
    return re.sub(r"(?<=[门化uh6`]), (?=[\d`])", "、", tables)


def _cached(name: str) -> Path:
    return CACHE / f"{name.replace(':', '-')}.json"


if __name__ == "__main__":
    CACHE.mkdir(exist_ok=True)
    for source, names in groups().items():
        for name in names:
            if re.search(sys.argv[1], name) if sys.argv[1:] else not _cached(name).exists():
                _cached(name).write_text(json.dumps(measured(name, source)))
                gc.collect()
    english, translated = page(), Path(__file__).with_name("networks.zh-CN.md")
    Path(__file__).with_name("networks.md").write_text(english)
    translated.write_text(chinese(translated.read_text(), english))
