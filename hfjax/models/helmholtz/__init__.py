"""Theta-gated Helmholtz machine: circuits, the autoencoder, path integration and remapping.

`task` is that of the autoencoder; `path_integration.task` and `remapping.task` are the others.

Theta has the sign of the original code: 0 for inference, 1 for generation. The paper (George et al.
2023, figures 2 and S1) has the opposite one, 1 in wake and 0 in sleep.
"""

from hfjax.models.helmholtz import path_integration, remapping
from hfjax.models.helmholtz.autoencoder import (
    autocorrelation,
    autoencoder_circuit,
    draw,
    gaussian_process_block,
    gaussian_process_coefficients,
    latents,
    task,
)
from hfjax.models.helmholtz.circuit import (
    Activity,
    Circuit,
    CircuitState,
    Feedforward,
    InitialWeights,
    Layer,
    Projection,
    Pyramidal,
    Rates,
    Source,
    Synapses,
    advance,
    check_circuit,
    frozen,
    init_circuit,
    normal_weights,
    potential,
    pyramidal,
)
from hfjax.models.helmholtz.machine import (
    MODES,
    HelmholtzState,
    Machine,
    Modes,
    World,
    init_machine,
    learn_block,
    make_machine,
    run_modes,
    simulate,
)
from hfjax.models.helmholtz.path_integration import (
    Protocol,
    measure_path_integration,
    path_integrator,
)
from hfjax.models.helmholtz.track import Track, place_world

__all__ = [
    "MODES",
    "Activity",
    "Circuit",
    "CircuitState",
    "Feedforward",
    "HelmholtzState",
    "InitialWeights",
    "Layer",
    "Machine",
    "Modes",
    "Projection",
    "Protocol",
    "Pyramidal",
    "Rates",
    "Source",
    "Synapses",
    "Track",
    "World",
    "advance",
    "autocorrelation",
    "autoencoder_circuit",
    "check_circuit",
    "draw",
    "frozen",
    "gaussian_process_block",
    "gaussian_process_coefficients",
    "init_circuit",
    "init_machine",
    "latents",
    "learn_block",
    "make_machine",
    "measure_path_integration",
    "normal_weights",
    "path_integration",
    "path_integrator",
    "place_world",
    "potential",
    "pyramidal",
    "remapping",
    "run_modes",
    "simulate",
    "task",
]
