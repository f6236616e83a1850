"""Layers that learn by themselves: the information bottleneck as a three-factor Hebbian rule.

Each layer z of a network lowers HSIC(x, z) - gamma HSIC(y, z): it forgets the input x but for what
tells of the target y. HSIC compares samples, so a layer needs those of the recent past, the window
in working memory. The biological rule changes a layer by its newest activity alone, before and
behind its weights, times a global signal that the window gives; no error goes through a layer.

Source: Daruwalla & Lipasti, Frontiers in Computational Neuroscience 2024; their repository
biological-hsic. Beside the rule stand their baselines on the same networks and data: the gradient
of each layer's own HSIC objective, and back-propagation.
"""

from hfjax.models.biohsic.classification import State, check_data, task
from hfjax.models.biohsic.figures import draw
from hfjax.models.biohsic.inputs import (
    carry_on,
    cifar_pixels,
    crop_and_flip,
    from_rest,
    no_augmentation,
    over_255,
    pixels,
)
from hfjax.models.biohsic.learners import (
    Update,
    back_propagation,
    biological_rule,
    cross_entropy,
    forward,
    hsic_gradient,
)
from hfjax.models.biohsic.lif import lif_mlp
from hfjax.models.biohsic.memory import Ring, Samples, WorkingMemory, ring_buffer, sliding_windows
from hfjax.models.biohsic.networks import Layer, Network, cnn, dense_stack, mlp

__all__ = [
    "Layer",
    "Network",
    "Ring",
    "Samples",
    "State",
    "Update",
    "WorkingMemory",
    "back_propagation",
    "biological_rule",
    "carry_on",
    "check_data",
    "cifar_pixels",
    "cnn",
    "crop_and_flip",
    "cross_entropy",
    "dense_stack",
    "draw",
    "forward",
    "from_rest",
    "hsic_gradient",
    "lif_mlp",
    "mlp",
    "no_augmentation",
    "over_255",
    "pixels",
    "ring_buffer",
    "sliding_windows",
    "task",
]
