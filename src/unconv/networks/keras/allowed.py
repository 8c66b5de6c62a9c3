"""The names that a Keras file may contain: Keras' own layers and their parts. Everything else is refused.

Missing on purpose are layers that run code from the file or wrap another library's module (TorchModuleWrapper, JaxLayer,
FlaxLayer, TFSMLayer), layers that read files (the lookups and TextVectorization), and everything that a program registers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

LAYERS = frozenset(
    """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention AugMix
    AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization Bidirectional CategoryEncoding
    CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D
    ConvLSTM3D Cropping1D Cropping2D Cropping3D CutMix Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU
    EinsumDense Embedding Equalization Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization
    GroupQueryAttention GroupedQueryAttention Identity InputLayer LSTM LSTMCell Lambda LayerNormalization LeakyReLU Masking
    MaxPooling1D MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum MixUp MultiHeadAttention Multiply Normalization PReLU
    Permute Pipeline RMSNormalization RNN RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast
    RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert
    RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation
    RandomZoom ReLU RepeatVector Rescaling Reshape Resizing ReversibleEmbedding STFTSpectrogram SeparableConv1D
    SeparableConv2D SimpleRNN SimpleRNNCell Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D
    SpectralNormalization StackedRNNCells Subtract TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D
    ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """.split()
)

_MODELS = frozenset({"Functional", "Model", "Sequential"})
_INITIALIZERS = frozenset(
    """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer LecunNormal LecunUniform Ones
    Orthogonal OrthogonalInitializer RandomNormal RandomUniform STFT STFTInitializer TruncatedNormal VarianceScaling Zeros
    """.split()
)
_REGULARIZERS = frozenset({"L1", "L1L2", "L2", "OrthogonalRegularizer"})
_CONSTRAINTS = frozenset({"MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"})
_POLICIES = frozenset(
    {"DTypePolicy", "DTypePolicyMap", "FloatDTypePolicy", "QuantizedDTypePolicy", "QuantizedFloat8DTypePolicy"}
)
_QUANTIZERS = frozenset({"AbsMaxQuantizer", "Float8QuantizationConfig", "Int4QuantizationConfig", "Int8QuantizationConfig"})

ACTIVATIONS = frozenset(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid
    log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid sparsemax
    squareplus swish tanh tanh_shrink threshold
    """.split()
)

# The modules in which Keras keeps each kind of class: public ones, and internal ones, which older files name.
_CLASS_MODULES = [
    (r"keras\.layers|keras\.src\.layers(\.\w+)+", LAYERS),
    (r"keras|keras\.models|keras\.(src\.)?(engine|models)(\.\w+)+", _MODELS),
    (r"keras|keras\.initializers|keras\.src\.initializers(\.\w+)*", _INITIALIZERS),
    (r"keras|keras\.regularizers|keras\.src\.regularizers(\.\w+)*", _REGULARIZERS),
    (r"keras|keras\.constraints|keras\.src\.constraints(\.\w+)*", _CONSTRAINTS),
    (r"keras|keras\.dtype_policies|keras\.src\.dtype_policies(\.\w+)*", _POLICIES),
    (r"keras|keras\.quantizers|keras\.src\.quantizers(\.\w+)*", _QUANTIZERS),
    (r"keras\.src\.applications\.convnext", frozenset({"LayerScale", "StochasticDepth"})),
    (r"keras\.src\.applications\.inception_resnet_v2", frozenset({"CustomScaleLayer"})),
]
_NAMES = frozenset().union(*(names for _, names in _CLASS_MODULES))
# Any class in these modules takes only tensors or numbers: operations in a graph, and settings of the training.
_NUMERIC_MODULES = re.compile(
    r"keras\.src\.ops\.(numpy|nn|math|image|linalg|einops)|keras\.(optimizers(\.schedules)?|losses|metrics)"
    r"|keras\.src\.(optimizers|losses|metrics)(\.\w+)*|keras\.src\.backend\.torch\.optimizers\.\w+"
)
_OPERATIONS = ("Cast", "ConvertToTensor", "SaturateCast", "Slice", "StopGradient", "Unstack")
_PLAIN_DTYPES = re.compile(r"bool|u?int(8|16|32|64)|b?float(16|32|64)")


def is_allowed(entry: dict[str, Any]) -> bool:
    """Say whether an entry with a `class_name` names one of Keras' own classes or activations."""
    name, module, registered = entry["class_name"], entry.get("module"), entry.get("registered_name")
    if name in _VALUES:
        return _VALUES[name](entry.get("config"))
    if not isinstance(name, str) or not (module is None or isinstance(module, str)):
        return False
    if name == "function":
        function = entry.get("config")
        is_keras = module in (None, "builtins", "keras.activations") or bool(
            re.fullmatch(r"keras\.src\.activations(\.\w+)*", module)
        )
        return is_keras and isinstance(function, str) and function in ACTIVATIONS and registered in (None, "function", function)
    if registered not in (None, name):
        return False
    return _is_known(name, module) and (name != "Lambda" or _is_named_function(entry.get("config")))


def _is_known(name: str, module: str | None) -> bool:
    if module is None:
        return name in _NAMES  # an initializer as a layer writes it; Keras looks it up in its own lists
    if any(name in names and re.fullmatch(pattern, module) for pattern, names in _CLASS_MODULES):
        return True
    if module == "keras.src.ops.core":
        return name in _OPERATIONS
    return bool(_NUMERIC_MODULES.fullmatch(module)) and bool(re.fullmatch(r"[A-Z]\w*", name))


def _is_named_function(config: Any) -> bool:
    """Say whether a Lambda layer only names an activation of Keras, with nothing that could be code."""
    if not isinstance(config, dict):
        return False
    entry, others = config.get("function"), [config.get("mask"), config.get("output_shape")]
    named = isinstance(entry, dict) and entry.get("class_name") == "function"
    return named and not any(isinstance(other, str | dict) for other in others)


def _is_plain_array(config: Any) -> bool:
    """Say whether a constant has plain numbers; a type with a length, as of strings, could take any amount of memory."""
    dtype = config.get("dtype") if isinstance(config, dict) else None
    return isinstance(dtype, str) and bool(_PLAIN_DTYPES.fullmatch(dtype))


def _is_anything(_config: Any) -> bool:
    return True


_VALUES: dict[str, Callable[[Any], bool]] = {
    "__keras_tensor__": _is_anything,
    "__slice__": _is_anything,
    "__ellipsis__": _is_anything,
    "__tensor__": _is_plain_array,
    "__numpy__": _is_plain_array,
}
