"""Layers that learn by themselves: the information bottleneck as a three-factor Hebbian rule.

Each layer z of a network lowers

    HSIC(x, z) - gamma HSIC(y, z).

It discards information about the input x and keeps what predicts the target y. HSIC compares
samples, so a layer needs recent ones: the window in working memory. The biological rule changes a
layer by its newest activity alone, before and after its weights, times a global signal computed
from the window. No error passes through a layer.

Source: Daruwalla & Lipasti, Frontiers in Computational Neuroscience 2024; their repository
biological-hsic. Two baselines use the same networks and data: the gradient of each layer's own HSIC
objective, and back-propagation.
"""

from hfjax.models.biohsic.classification import State, check_data, task
from hfjax.models.biohsic.figures import draw
from hfjax.models.biohsic.inputs import (
    Augment,
    Encode,
    cifar_pixels,
    crop_and_flip,
    no_augmentation,
    over_255,
    pixels,
)
from hfjax.models.biohsic.learners import (
    Bottleneck,
    Learner,
    Update,
    Window,
    back_propagation,
    biological_rule,
    cross_entropy,
    hsic_gradient,
    see,
)
from hfjax.models.biohsic.lif import lif_mlp
from hfjax.models.biohsic.memory import Ring, Samples, WorkingMemory, ring_buffer, sliding_windows
from hfjax.models.biohsic.networks import (
    Layer,
    Network,
    at_rest,
    carry_on,
    cnn,
    forward,
    from_rest,
    init_params,
    mlp,
)

__all__ = [
    "Augment",
    "Bottleneck",
    "Encode",
    "Layer",
    "Learner",
    "Network",
    "Ring",
    "Samples",
    "State",
    "Update",
    "Window",
    "WorkingMemory",
    "at_rest",
    "back_propagation",
    "biological_rule",
    "carry_on",
    "check_data",
    "cifar_pixels",
    "cnn",
    "crop_and_flip",
    "cross_entropy",
    "draw",
    "forward",
    "from_rest",
    "hsic_gradient",
    "init_params",
    "lif_mlp",
    "mlp",
    "no_augmentation",
    "over_255",
    "pixels",
    "ring_buffer",
    "see",
    "sliding_windows",
    "task",
]
