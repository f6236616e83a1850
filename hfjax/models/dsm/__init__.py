"""The distributional successor measure: a distribution over discounted future occupancies.

`task` is the model; `returns` and `place_maps` hold what its evaluations compare and draw.
"""

from hfjax.models.dsm.adversaries import (
    Adversary,
    mlp_adversary,
    no_adversary,
    residual_adversary,
)
from hfjax.models.dsm.atoms import (
    Atom,
    MakeAtom,
    atom,
    atom_activity,
    atoms_init,
    identity,
    sample_atoms,
)
from hfjax.models.dsm.objectives import (
    Objective,
    between_atoms,
    between_atoms_by_median,
    each_atom,
)
from hfjax.models.dsm.place_maps import (
    MOVED,
    draw_place_maps,
    draw_similarity,
    evaluate_place_maps,
    field_statistics,
    fields,
    similarity_when_moved,
)
from hfjax.models.dsm.returns import (
    distances,
    draw_pendulum,
    draw_returns,
    draw_windy,
    evaluate_returns,
    pendulum_returns,
    windy_returns,
)
from hfjax.models.dsm.task import (
    Evaluation,
    Predictor,
    State,
    Stretch,
    TargetUpdate,
    hard_update,
    horizons,
    soft_update,
    target_samples,
    task,
)

__all__ = [
    "MOVED",
    "Adversary",
    "Atom",
    "Evaluation",
    "MakeAtom",
    "Objective",
    "Predictor",
    "State",
    "Stretch",
    "TargetUpdate",
    "atom",
    "atom_activity",
    "atoms_init",
    "between_atoms",
    "between_atoms_by_median",
    "distances",
    "draw_pendulum",
    "draw_place_maps",
    "draw_returns",
    "draw_similarity",
    "draw_windy",
    "each_atom",
    "evaluate_place_maps",
    "evaluate_returns",
    "field_statistics",
    "fields",
    "hard_update",
    "horizons",
    "identity",
    "mlp_adversary",
    "no_adversary",
    "pendulum_returns",
    "residual_adversary",
    "sample_atoms",
    "similarity_when_moved",
    "soft_update",
    "target_samples",
    "task",
    "windy_returns",
]
