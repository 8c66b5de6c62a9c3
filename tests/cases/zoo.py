"""Families of networks, small and random: what the laws are checked on beside the networks of `cases.py`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torchvision import models


@dataclass(frozen=True)
class Family:
    """A network and an input small for it.

    Args:
        build: a name of torchvision, `timm:NAME`, or a function that makes the module.
        places: modules, early and deep, whose units are run backwards.
        exact: whether the oracle knows what a deconvnet holds fixed; elsewhere only the gradient is compared.
        tolerance: of the gradient; looser where the network takes its statistics in float32, whatever its type.
    """

    build: str | Callable[[], nn.Module]
    size: tuple[int, ...] = (3, 64, 48)
    places: tuple[str, ...] = ()
    exact: bool = True
    tolerance: float = 1e-10


# -- small networks of our own, one for each way to build -------------------------------------------


class Waves(nn.Module):
    """Audio: one axis, strides, dilations, groups, a global mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(2, 8, 9, 4, 4), nn.BatchNorm1d(8), nn.ReLU(True), nn.MaxPool1d(3, 2, 1))
        self.dilated = nn.Conv1d(8, 8, 3, padding=4, dilation=4, groups=4)
        self.gate = nn.Conv1d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + torch.tanh(self.dilated(x)) * torch.sigmoid(self.gate(x))
        return self.head(x.mean(-1))


class UNet(nn.Module):
    """Skips over poolings, transposed convolutions, concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = self.block(3, 6), self.block(6, 8)
        self.middle = self.block(8, 8)
        self.up2, self.up1 = nn.ConvTranspose2d(8, 6, 2, 2), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.right2, self.right1 = self.block(14, 6), self.block(12, 6)
        self.out = nn.Conv2d(6, 2, 1)

    @staticmethod
    def block(first: int, last: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(first, last, 3, padding=1), nn.GroupNorm(2, last), nn.LeakyReLU(0.1, True))

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        x = self.middle(F.max_pool2d(two, 2))
        x = self.right2(torch.cat([self.up2(x), two], 1))
        return self.out(self.right1(torch.cat([self.up1(x), one], 1)))


class Unpooling(nn.Module):
    """SegNet's decoder, then an enlargement by shuffled channels."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.InstanceNorm2d(6, affine=True), nn.ELU())
        self.decode = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1, padding_mode="circular"), nn.PReLU(8))
        self.large = nn.PixelShuffle(2)
        self.out = nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        pooled, switches = F.max_pool2d(self.encode(x), 2, return_indices=True)
        return self.out(self.large(self.decode(F.max_unpool2d(pooled, switches, 2))))


class Autoencoder(nn.Module):
    """Down to a vector and up again."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(), nn.Flatten())
        self.code, self.back = nn.Linear(8 * 7 * 5, 6), nn.Linear(6, 8 * 7 * 5)
        self.decode = nn.Sequential(
            nn.ReLU(), nn.ConvTranspose2d(8, 4, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Tanh()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.back(self.code(self.encode(x))).unflatten(1, (8, 7, 5)))


class Shuffles(nn.Module):
    """Chunks, splits, shuffles, slices and permutations of channels; a norm of weights; a norm of the old kind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = parametrizations.weight_norm(nn.Conv2d(3, 8, 3, 2))
        self.lrn = nn.LocalResponseNorm(5, alpha=0.3, k=2.0)
        self.left = parametrizations.spectral_norm(nn.Conv2d(4, 4, 3, padding=1, groups=2)).eval()
        self.right = nn.Conv2d(4, 4, 5, padding=2, padding_mode="replicate")
        self.shuffle = nn.ChannelShuffle(4)
        self.last, self.norm = nn.Linear(8, 6), nn.LayerNorm(6)
        self.drop = nn.Dropout2d()

    def forward(self, x: Tensor) -> Tensor:
        x = self.lrn(F.relu6(self.stem(x)))
        a, b = x.chunk(2, 1)
        x = self.shuffle(torch.cat([F.mish(self.left(a)), F.softplus(self.right(b))], 1))
        x = self.drop(F.hardswish(x[:, [0, 2, 4, 6, 1, 3, 5, 7]]))
        x = F.gelu(self.norm(self.last(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
        first, rest = x.split([2, 4], 1)
        return F.avg_pool2d(torch.cat([rest.relu(), first.clamp(min=0)], 1), 2)


class Gates(nn.Module):
    """Squeeze-excitation, a spatial mask, and a softmax over branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 5, padding=2)
        self.squeeze, self.choose, self.mask = nn.Conv2d(6, 6, 1), nn.Linear(6, 2), nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.stem(x))
        x = x * F.hardsigmoid(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        x = x * torch.sigmoid(self.mask(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))
        a, b = F.relu(self.one(x)), F.relu(self.two(x))
        weights = torch.softmax(self.choose((a + b).mean((2, 3))), 1)
        return a * weights[:, :1, None, None] + b * weights[:, 1:, None, None]


FAMILIES = {
    # torchvision: classification
    "mobilenet_v2": Family("mobilenet_v2", places=("features.3", "features.17.conv.1")),
    "mobilenet_v3": Family("mobilenet_v3_small", places=("features.4.block.1", "features.11.block.3.0")),
    "efficientnet": Family("efficientnet_b0", places=("features.2.0.block.2", "features.6.1.block.3.0")),
    "efficientnet_v2": Family("efficientnet_v2_s", places=("features.2.1.block.1.0", "features.5.2.block.3.0")),
    "regnet_x": Family("regnet_x_400mf", places=("trunk_output.block2.block2-0", "trunk_output.block4.block4-1.f.b")),
    "regnet_y": Family("regnet_y_400mf", places=("trunk_output.block2.block2-0", "trunk_output.block3.block3-3.f.c.0")),
    "convnext": Family("convnext_tiny", places=("features.1.1.block.0", "features.5.2")),
    "resnext": Family("resnext50_32x4d", places=("layer2.1.conv2", "layer3.0")),
    # torchvision: segmentation, with dilated backbones; video
    "fcn": Family("fcn_resnet50", places=("backbone.layer3.2.conv2", "classifier.2")),
    "deeplab": Family("deeplabv3_mobilenet_v3_large", places=("backbone.8.block.1.0", "classifier.0.project.2")),
    "lraspp": Family("lraspp_mobilenet_v3_large", places=("backbone.8", "classifier.high_classifier")),
    "r3d": Family("r3d_18", (3, 6, 24, 20), ("layer1.1.conv1", "layer3.0.relu")),
    # timm
    "timm resnet": Family("timm:resnet26d", places=("layer2.1.conv2", "layer3.1.bn2")),
    "timm resnet, blurred": Family("timm:resnetblur18", places=("layer2.0.conv2", "layer3.1")),
    "timm resnext, gates": Family("timm:seresnext26d_32x4d", places=("layer2.1.conv2", "layer3.1")),
    "timm selective kernels": Family("timm:skresnet18", places=("layer1.1", "layer3.0")),
    "timm eca": Family("timm:ecaresnet26t", places=("layer2.1", "layer3.0")),
    "timm res2net": Family("timm:res2net50_14w_8s", places=("layer1.1.bn3", "layer3.1.bns.2")),
    "timm resnest": Family("timm:resnest14d", places=("layer2.0.bn3", "layer3.0")),
    "timm vgg": Family("timm:vgg11_bn", places=("features.5", "features.19"), size=(3, 48, 64)),
    "timm densenet": Family("timm:densenetblur121d", places=("features.denseblock1", "features.denseblock3.denselayer2")),
    "timm efficientnet": Family("timm:tf_efficientnet_b0", places=("blocks.1.1", "blocks.4.1.bn1")),
    "timm efficientnet, group norm": Family("timm:efficientnet_b0_gn", places=("blocks.1.1", "blocks.4.1.bn1")),
    "timm mobilenet": Family("timm:mobilenetv3_small_050", places=("blocks.1.1", "blocks.4.0.bn2")),
    "timm mobilenet v4": Family("timm:mobilenetv4_conv_small_050", places=("blocks.1.1", "blocks.3.0")),
    "timm ghostnet": Family("timm:ghostnet_050", places=("blocks.2.0", "blocks.5.0")),
    "timm convnext": Family("timm:convnext_atto_ols", places=("stages.0.blocks.1.conv_dw", "stages.2.blocks.1")),
    "timm convnext v2": Family("timm:convnextv2_atto", places=("stages.0.blocks.1.mlp.act", "stages.2.blocks.1")),
    "timm nfnet": Family("timm:eca_nfnet_l0", places=("stages.0.0.conv2", "stages.1.1")),
    "timm nf resnet": Family("timm:nf_resnet26", places=("stages.1.0.conv2", "stages.2.1")),
    "timm bit": Family("timm:resnetv2_50x1_bit", places=("stages.0.blocks.2.conv2", "stages.1.blocks.1"), size=(3, 48, 32)),
    "timm filter response norm": Family(
        "timm:resnetv2_50d_frn", places=("stages.0.blocks.1.conv2",), exact=False, tolerance=1e-6
    ),
    "timm evonorm": Family("timm:resnetv2_50d_evos", places=("stages.0.blocks.1.conv2",), exact=False, tolerance=1e-6),
    "timm repvgg": Family("timm:repvgg_a0", places=("stages.1.1", "stages.2.3")),
    "timm mobileone": Family("timm:mobileone_s0", places=("stages.1.1", "stages.2.3")),
    "timm dla": Family("timm:dla34", (3, 64, 64), ("level2", "level4.tree1")),
    "timm hrnet": Family("timm:hrnet_w18_small", (3, 64, 64), ("layer1", "stage3.0.fuse_layers.0.2", "final_layer")),
    "timm inception v4": Family("timm:inception_v4", places=("features.4", "features.7"), size=(3, 91, 107)),
    "timm inception resnet": Family("timm:inception_resnet_v2", places=("mixed_5b", "repeat.1"), size=(3, 91, 107)),
    "timm xception": Family("timm:xception41", places=("blocks.1", "blocks.4")),
    "timm darknet": Family("timm:darknet53", places=("stages.1.blocks.0", "stages.3.blocks.1")),
    "timm csp darknet": Family("timm:cspdarknet53", places=("stages.1.blocks.1", "stages.3.blocks.1")),
    "timm csp resnet": Family("timm:cspresnet50", places=("stages.1.blocks.1", "stages.2.blocks.1")),
    "timm regnet": Family("timm:regnety_002", places=("s2.b1", "s3.b1.conv2")),
    "timm regnet z": Family("timm:regnetz_b16", places=("stages.1.1", "stages.2.1")),
    "timm dpn": Family("timm:dpn48b", places=("features.conv2_1", "features.conv3_2"), exact=False),
    "timm tresnet": Family("timm:tresnet_m", places=("body.layer1.1", "body.layer3.0")),
    "timm vovnet": Family("timm:ese_vovnet19b_dw", places=("stages.0", "stages.2")),
    "timm rexnet": Family("timm:rexnet_100", places=("features.3", "features.8")),
    "timm nasnet-like": Family("timm:pnasnet5large", places=("cell_stem_0",), size=(3, 75, 67)),
    "timm starnet": Family("timm:starnet_s050", places=("stages.1.1", "stages.2.1"), exact=False),
    # ways to build
    "waves": Family(Waves, (2, 201), ("stem", "dilated")),
    "u-net": Family(UNet, (3, 24, 20), ("middle", "right2", "out")),
    "unpooling": Family(Unpooling, (3, 14, 12), ("encode", "decode", "out")),
    "autoencoder": Family(Autoencoder, (1, 28, 20), ("encode.3", "code", "decode.3")),
    "shuffles": Family(Shuffles, (3, 21, 19), ("left", "drop")),
    "gates": Family(Gates, (3, 21, 19), ("one", "two")),
}


def network(family: Family) -> nn.Module:
    """The family's network in float64; weights are random, norms have random statistics and scales of both signs."""
    torch.manual_seed(0)
    model = _built(family.build).eval()
    for module in model.modules():
        if isinstance(getattr(module, "running_var", None), Tensor):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
        is_norm = "Norm" in type(module).__name__ and "Act" not in type(module).__name__
        if is_norm and isinstance(getattr(module, "weight", None), nn.Parameter):
            module.weight.data.normal_(0, 1)
            module.bias.data.normal_(0, 0.3)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.rpartition(".")[2] in ("gamma", "layer_scale", "gain", "skipinit_gain") and not parameter.data.any():
            parameter.data.normal_(0, 1)
    return model.double().requires_grad_(False)


def _built(build: str | Callable[[], nn.Module]) -> nn.Module:
    if not isinstance(build, str):
        return build()
    if build.startswith("timm:"):
        import timm

        return timm.create_model(build.removeprefix("timm:"), pretrained=False)
    backbone = (
        {"weights_backbone": None}
        if "weights_backbone" in inspect.signature(models.get_model_builder(build)).parameters
        else {}
    )
    return models.get_model(build, weights=None, **backbone)


def image(family: Family) -> Tensor:
    """(1, C, samples..), float64."""
    return torch.randn(1, *family.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
