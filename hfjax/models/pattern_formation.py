"""Pattern formation without an RNN: grids from the covariance of the place code alone.

A linear decoder from grid to place cells is best when the maps G [map, x, y] of the grid cells span
the strongest eigenvectors of the place cells' spatial covariance Sigma. By translation symmetry
these are Fourier modes, on the ring where the spectrum of Sigma peaks. A nonlinearity without the
symmetry g -> -g picks three of them, 60 degrees apart: hexagons (Sorscher et al. 2019, sec. 3, and
Neuron 2023). Here G climbs that objective directly, with no network in between.

Source of both recurrences and their constants: `pattern_formation.ipynb` of the repository
grid-pattern-formation, and `PlaceCells.compute_covariance` there.
"""

from functools import partial
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.ndimage import map_coordinates
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hfjax import cells, check, figures, missing, ratemaps
from hfjax.missing import MISSING
from hfjax.networks import Nonlinearity, relu
from hfjax.task import Axis, HostReadout, Metric, Readout, Scalars, Task, logged, no_batch


class PatternState(NamedTuple):
    """The maps, the linear operator under which they grow, and the optimizer.

    maps       [map, x, y], the activity of each unit in each bin of the box.
    spectrum   [kx, ky], the eigenvalues of Sigma (its Fourier transform, in the order of fftfreq).
    opt_state  state of the optimizer.
    """

    maps: jax.Array
    spectrum: jax.Array
    opt_state: optax.OptState


# --- Covariance of the place code ---


class PlaceCode(Protocol):
    """(positions, centres, sigma_m) -> rates."""

    def __call__(self, positions: jax.Array, centres: jax.Array, /, *, sigma_m: float) -> jax.Array:
        """positions [..., 2], centres [place, 2] (m) -> rates [..., place]."""


class Covariance(Protocol):
    """(key, num_bins, width_m) -> spectrum."""

    def __call__(self, key: jax.Array, /, *, num_bins: int, width_m: float) -> jax.Array:
        """Eigenvalues [kx, ky] of Sigma."""


def bin_centres(*, num_bins: int, width_m: float) -> jax.Array:
    """Positions [x, y, 2] (m) of the bins of a map: the first and last bins lie on the walls.

    As published. The period of the Fourier modes is width * num_bins / (num_bins - 1).
    """
    axis = jnp.linspace(-width_m / 2, width_m / 2, num_bins)
    return jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1)


def place_code_spectrum(
    key: jax.Array,
    *,
    num_bins: int,
    width_m: float,
    num_place: int = 512,
    sigma_m: float = 0.12,
    place_code: PlaceCode = cells.softmax_surround,
) -> jax.Array:
    """Eigenvalues [kx, ky] of the place code's covariance, made translation invariant.

    Sigma(s) = sum_x sum_i p_i(x) p_i(x + s) over all cyclic shifts s, for num_place centres drawn
    uniformly. By the Wiener-Khinchin theorem its eigenvalues are sum_i |FFT(p_i)|^2. The zero mode
    (the mean activity) is removed.

    num_place   place cells.
    sigma_m     width of the place fields (m).
    place_code  rates of the place cells at a position, as `cells.softmax_surround` gives them.

    The sum over the bins x is not divided by their number: the published learning rates are for
    this scale. Source: `PlaceCells.compute_covariance`, which shifts and adds the full matrix of
    [x, y, x, y], with the same result. Deviation: the centres come from `key`, not from seed 0.

    Raises ValueError if num_place is below 1 or sigma_m is not positive.
    """
    check.at_least(1, num_place=num_place)
    check.positive(sigma_m=sigma_m)
    centres = cells.place_centres(key, num_place=num_place, width_m=width_m)
    positions = bin_centres(num_bins=num_bins, width_m=width_m)
    p = place_code(positions, centres, sigma_m=sigma_m)
    chex.assert_shape(p, (num_bins, num_bins, num_place))
    power = jnp.sum(jnp.abs(jnp.fft.fft2(p, axes=(0, 1))) ** 2, axis=-1)
    return power.at[0, 0].set(0.0)


def gaussian_spectrum(
    key: jax.Array, *, num_bins: int, width_m: float, sigma_m: float = 0.12
) -> jax.Array:
    """Eigenvalues [kx, ky] of a Gaussian covariance exp(-|s|^2 / 2 sigma^2), zero mode kept.

    sigma_m: width of the covariance (m).
    `key` is not used: this Sigma has no random part. An odd num_bins makes shift 0 a bin.
    Source: the multi-grid part of the notebook.

    Raises ValueError if num_bins is even or sigma_m is not positive.
    """
    del key
    if num_bins % 2 == 0:
        raise ValueError(f"num_bins must be odd for the Gaussian covariance, but is {num_bins}")
    check.positive(sigma_m=sigma_m)
    s = bin_centres(num_bins=num_bins, width_m=width_m)
    covariance = jnp.exp(-jnp.sum(s**2, axis=-1) / (2 * sigma_m**2))
    return jnp.fft.fft2(jnp.fft.ifftshift(covariance)).real


# --- Dynamics ---


def convolve(maps: jax.Array, spectrum: jax.Array) -> jax.Array:
    """Sigma * G: each map [map, x, y] convolved over the periodic box, by FFT."""
    half = spectrum[:, : spectrum.shape[1] // 2 + 1]  # Sigma is real and even, so is its spectrum
    return jnp.fft.irfft2(jnp.fft.rfft2(maps) * half[None], s=maps.shape[-2:])


def steep_relu(x: jax.Array) -> jax.Array:
    """30 max(x, 0): the published nonlinearity of the hierarchy of hexagonal grids."""
    return relu(30 * x)


def unit_peak(maps: jax.Array) -> jax.Array:
    """Each map [map, x, y] divided by its largest magnitude; a map of zeros stays."""
    peak = jnp.max(jnp.abs(maps), axis=(1, 2), keepdims=True)
    return maps / jnp.maximum(peak, jnp.finfo(maps.dtype).tiny)


class Update(Protocol):
    """(maps, opt_state, spectrum, optimizer, nonlinearity) -> (maps, opt_state)."""

    def __call__(
        self,
        maps: jax.Array,
        opt_state: optax.OptState,
        spectrum: jax.Array,
        /,
        *,
        optimizer: optax.GradientTransformation,
        nonlinearity: Nonlinearity,
    ) -> tuple[jax.Array, optax.OptState]:
        """One iteration of the maps [map, x, y]."""


def ascend(
    maps: jax.Array,
    direction: jax.Array,
    opt_state: optax.OptState,
    optimizer: optax.GradientTransformation,
) -> tuple[jax.Array, optax.OptState]:
    """G + lr D for optax.sgd(lr): a step of the optimizer along the direction D [map, x, y]."""
    updates, opt_state = optimizer.update(-direction, opt_state, maps)
    return maps + updates, opt_state


def independent_maps(
    maps: jax.Array,
    opt_state: optax.OptState,
    spectrum: jax.Array,
    *,
    optimizer: optax.GradientTransformation,
    nonlinearity: Nonlinearity,
) -> tuple[jax.Array, optax.OptState]:
    """One iteration for maps [map, x, y] that do not interact.

    G <- phi(G + lr (-G + Sigma * G)). Source: notebook, single-cell dynamics.
    """
    direction = convolve(maps, spectrum) - maps
    maps, opt_state = ascend(maps, direction, opt_state, optimizer)
    return nonlinearity(maps), opt_state


def independent_unit_maps(
    maps: jax.Array,
    opt_state: optax.OptState,
    spectrum: jax.Array,
    *,
    optimizer: optax.GradientTransformation,
    nonlinearity: Nonlinearity,
) -> tuple[jax.Array, optax.OptState]:
    """`independent_maps`, then each map divided by its peak.

    The published relu recurrence diverges to 1e75 in its 1000 iterations, which float32 cannot
    hold. If phi(a g) = a phi(g) for every a > 0 (relu) and the step is linear (optax.sgd), the
    whole iteration F has F(a G) = a F(G): a positive factor on a map, at any time, leaves all later
    patterns the same. The maps are the published ones, each divided by its peak. For tanh, whose
    saturation sets the scale, use `independent_maps`.

    Raises ValueError for a nonlinearity that is not positively homogeneous.
    """
    check_homogeneous(nonlinearity)
    maps, opt_state = independent_maps(
        maps, opt_state, spectrum, optimizer=optimizer, nonlinearity=nonlinearity
    )
    return unit_peak(maps), opt_state


def competing_maps(
    maps: jax.Array,
    opt_state: optax.OptState,
    spectrum: jax.Array,
    *,
    optimizer: optax.GradientTransformation,
    nonlinearity: Nonlinearity,
) -> tuple[jax.Array, optax.OptState]:
    """One iteration for maps [map, x, y] that compete: each avoids those before it.

    G <- G + lr (H - tril(H G^T) G + phi(G)), H = Sigma * G: Sanger's rule (Oja's for one map) with
    a nonlinear term. Map i is deflated by maps 0..i, so the maps are in the order of their
    eigenvalues. Source: notebook, multi-grid dynamics. Deviation: map 0 is the first of the
    hierarchy; in the notebook it is the last (and the figure is flipped).
    """
    H = convolve(maps, spectrum)
    overlap = jnp.tril(jnp.einsum("ixy,jxy->ij", H, maps))
    direction = H - jnp.einsum("ij,jxy->ixy", overlap, maps) + nonlinearity(maps)
    return ascend(maps, direction, opt_state, optimizer)


def check_homogeneous(nonlinearity: Nonlinearity) -> None:
    """Raise ValueError unless f(4 x) = 4 f(x) for x = -2, -1, 0, 1, 2, as for relu."""
    x = np.linspace(-2.0, 2.0, 5, dtype=np.float32)
    # Numbers, also while a caller is traced; jit is for JAX 0.8, which else traces jax.nn.relu.
    with jax.ensure_compile_time_eval():
        values, of_four_x = (np.asarray(jax.jit(nonlinearity)(y)) for y in (x, 4 * x))
    if not np.allclose(of_four_x, 4 * values):
        raise ValueError(
            "independent_unit_maps needs a nonlinearity with f(a x) = a f(x) for a > 0, such as "
            "relu; use independent_maps with this one"
        )


# --- What the maps are ---


def wave_vectors(*, num_bins: int, width_m: float) -> jax.Array:
    """Wave vector [kx, ky, 2] (cycles per metre) of each Fourier mode, in the order of fftfreq."""
    k = jnp.fft.fftfreq(num_bins, d=width_m / (num_bins - 1))
    return jnp.stack(jnp.meshgrid(k, k, indexing="ij"), axis=-1)


def objective(maps: jax.Array, spectrum: jax.Array) -> jax.Array:
    """What each map [map] maximises: (g^T Sigma g) / (g^T g), over Sigma's top eigenvalue."""
    power = jnp.abs(jnp.fft.fft2(unit_peak(maps))) ** 2
    total = jnp.maximum(jnp.sum(power, axis=(1, 2)), jnp.finfo(maps.dtype).tiny)
    return jnp.sum(power * spectrum[None], axis=(1, 2)) / total / jnp.max(spectrum)


def power_shares(maps: jax.Array) -> jax.Array:
    """Share of each Fourier mode [map, kx, ky] in the variance of each map; 0 for a uniform map."""
    centred = maps - jnp.mean(maps, axis=(1, 2), keepdims=True)
    power = jnp.abs(jnp.fft.fft2(centred)) ** 2
    total = jnp.sum(power, axis=(1, 2), keepdims=True)
    return power / jnp.where(total > 0, total, 1)


def scale_and_orientation(maps: jax.Array, *, width_m: float) -> tuple[jax.Array, jax.Array]:
    """Grid spacing (m) and orientation (degrees in [0, 60)) of each map [map], from its spectrum.

    With k the strongest Fourier mode other than zero, a hexagonal grid has the spacing
    2 / (sqrt(3) |k|), and its fields lie in the directions 30 degrees off k. Both are discrete, as
    the modes of the box are. MISSING for a uniform map.
    """
    num_maps, num_bins, _ = maps.shape
    power = jnp.abs(jnp.fft.fft2(unit_peak(maps))) ** 2
    strongest = jnp.argmax(power.at[:, 0, 0].set(0.0).reshape(num_maps, -1), axis=1)
    k = wave_vectors(num_bins=num_bins, width_m=width_m).reshape(-1, 2)[strongest]
    spacing_m = 2 / (np.sqrt(3) * jnp.linalg.norm(k, axis=-1))
    angle_deg = jnp.rad2deg(jnp.arctan2(k[:, 1], k[:, 0])) + 30
    # Rounded first: k and -k are the same wave and must not give 0 and 60.
    orientation_deg = jnp.mod(jnp.round(angle_deg, 3), 60)
    varies = jnp.max(maps, axis=(1, 2)) > jnp.min(maps, axis=(1, 2))
    return jnp.where(varies, spacing_m, MISSING), jnp.where(varies, orientation_deg, MISSING)


# --- The task ---

METRICS = logged(
    step={
        "objective": Metric(
            "objective",
            better="higher",
            level=("of a linear map, at most", 1.0),
            panel="Objective of the maps",
            measure="variance / largest eigenvalue",
        ),
        "change": Metric(
            "change in a step",
            panel="Change of the maps in a step",
            measure="distance of maps of unit length",
            log=True,
        ),
    },
    evaluation={
        **ratemaps.share_metrics("maps"),
        "median_grid_score": ratemaps.SCORE,
        "median_spacing_m": Metric("median spacing", "m", panel="Spacing of the maps"),
    },
)


def task(
    *,
    num_maps: int = 32,
    num_bins: int = 55,
    width_m: float = 2.2,
    covariance: Covariance = place_code_spectrum,
    update: Update = independent_unit_maps,
    nonlinearity: Nonlinearity = relu,
    optimizer: optax.GradientTransformation | None = None,
    initial_std: float = 1e-8,
    iterations_per_step: int = 10,
    num_noise_maps: int = 256,
) -> Task:
    """Maps that grow under the covariance of the place code. The defaults give single hexagons.

    num_maps             number of maps.
    num_bins             bins of a map along each side.
    width_m              side of the periodic box (m).
    covariance           eigenvalues of Sigma: `place_code_spectrum` or `gaussian_spectrum`.
    update               one iteration: `independent_unit_maps`, `independent_maps` or
                         `competing_maps`.
    nonlinearity         phi of the maps after each iteration.
    optimizer            step along the update's direction; None for optax.sgd(5e-3), as published.
    initial_std          standard deviation of the white noise with which the maps start.
    iterations_per_step  iterations in a training step.
    num_noise_maps       maps of low-pass filtered noise (sigma a tenth of the box), the control.

    The state is its own data: `sample` returns (), `step` ignores its batch and key.
    Step scalars: see `step`. Evaluation: see `evaluate`.

    Raises ValueError for impossible numbers; `init` raises it where `independent_unit_maps` is
    combined with a nonlinearity that is not positively homogeneous.
    """
    check.at_least(
        1, num_maps=num_maps, iterations_per_step=iterations_per_step, num_noise_maps=num_noise_maps
    )
    check.at_least(10, num_bins=num_bins)  # needed by the grid scores
    check.positive(width_m=width_m, initial_std=initial_std)
    optimizer = optax.sgd(5e-3) if optimizer is None else optimizer
    iterate = partial(update, optimizer=optimizer, nonlinearity=nonlinearity)

    def init(key: jax.Array, data: Any) -> PatternState:
        del data
        covariance_key, map_key = jax.random.split(key)
        spectrum = covariance(covariance_key, num_bins=num_bins, width_m=width_m)
        chex.assert_shape(spectrum, (num_bins, num_bins))
        maps = initial_std * jax.random.normal(map_key, (num_maps, num_bins, num_bins))
        state = PatternState(maps, spectrum, optimizer.init(maps))
        jax.eval_shape(iterate, state.maps, state.opt_state, spectrum)  # the checks of `update`
        return state

    return Task(
        init=init,
        sample=no_batch,
        step=partial(step, iterate=iterate, num_iterations=iterations_per_step),
        evaluate=partial(evaluate, width_m=width_m, num_noise_maps=num_noise_maps),
        figures=draw,
        metrics=METRICS,
        axis=Axis("iterations", iterations_per_step),
        apply=partial(apply, width_m=width_m),
    )


def apply(state: PatternState, positions: jax.Array, /, *, width_m: float) -> jax.Array:
    """A Task's `apply`: the maps, scaled to a peak of 1, at the positions of a path.

    Between the centres of bins they are bilinear. positions [time, 2] (m) -> [time, map].
    """
    chex.assert_shape(positions, (None, 2))
    num_bins = state.maps.shape[1]
    bins = (positions / width_m + 0.5).T * (num_bins - 1)  # the outer bins lie on the walls
    look_up = partial(map_coordinates, coordinates=list(bins), order=1, mode="nearest")
    return jax.vmap(look_up, out_axes=1)(unit_peak(state.maps))


class Iterate(Protocol):
    """(maps, opt_state, spectrum) -> (maps, opt_state): an `Update` with its settings bound."""

    def __call__(
        self, maps: jax.Array, opt_state: optax.OptState, spectrum: jax.Array, /
    ) -> tuple[jax.Array, optax.OptState]:
        """One iteration of the maps [map, x, y]."""


def step(
    state: PatternState, batch: tuple[()], key: jax.Array, *, iterate: Iterate, num_iterations: int
) -> tuple[PatternState, Scalars]:
    """num_iterations of the maps.

    Scalars: `objective`, the mean over maps (at most 1, which a linear map would reach); `change`,
    the mean distance between a map before and after the step, both at unit length.
    """
    del batch, key

    def iteration(
        carry: tuple[jax.Array, optax.OptState], _: None
    ) -> tuple[tuple[jax.Array, optax.OptState], None]:
        return iterate(*carry, state.spectrum), None

    (maps, opt_state), _ = jax.lax.scan(
        iteration, (state.maps, state.opt_state), length=num_iterations
    )
    scalars = {
        "objective": jnp.mean(objective(maps, state.spectrum)),
        "change": jnp.mean(_distance(_unit_length(maps), _unit_length(state.maps))),
    }
    return PatternState(maps, state.spectrum, opt_state), scalars


def evaluate(
    state: PatternState, data: Any, key: jax.Array, *, width_m: float, num_noise_maps: int
) -> tuple[Scalars, Readout]:
    """Grid scores with their control, scales and spectra of the maps.

    Scalars: shares of maps, and of noise maps, above the grid scores .3, .37, .8; median score and
    spacing. Readout: rate_maps [map, x, y], extent_m, grid_score_60 [map], noise_grid_score_60
    [noise map], spacing_m, orientation_deg [map], power [map, kx, ky] (share of each mode in the
    variance), spectrum and wave_vectors [kx, ky, ...] of Sigma, covariance [x, y], Sigma itself.
    """
    del data
    num_bins = state.maps.shape[1]
    # Rounded: the first map of a hierarchy is uniform, and its ripples must not be scored.
    maps = jnp.round(unit_peak(state.maps), 5)
    control = ratemaps.noise_control(
        maps, key, num_noise_maps=num_noise_maps, sigma_bins=num_bins / 10
    )
    scores = control.scores.score_60
    spacing_m, orientation_deg = scale_and_orientation(maps, width_m=width_m)
    scalars = dict(control.shares)
    scalars["median_grid_score"] = jnp.median(scores)
    scalars["median_spacing_m"] = missing.median(spacing_m)
    readout = {
        "rate_maps": maps,
        "extent_m": jnp.asarray([[-width_m / 2, width_m / 2]] * 2),
        "grid_score_60": scores,
        "noise_grid_score_60": control.noise_scores.score_60,
        "spacing_m": spacing_m,
        "orientation_deg": orientation_deg,
        "power": power_shares(maps),
        "spectrum": state.spectrum,
        "covariance": jnp.fft.fftshift(jnp.fft.ifft2(state.spectrum).real),
        "wave_vectors": wave_vectors(num_bins=num_bins, width_m=width_m),
    }
    return scalars, readout


def _unit_length(maps: jax.Array) -> jax.Array:
    maps = unit_peak(maps)
    norm = jnp.sqrt(jnp.sum(maps**2, axis=(1, 2), keepdims=True))
    return maps / jnp.maximum(norm, jnp.finfo(maps.dtype).tiny)


def _distance(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum((a - b) ** 2, axis=(1, 2)))


# --- Figures ---


def draw(readout: HostReadout) -> dict[str, Figure]:
    """Figures of a readout (see `task`): maps, spectra, covariance, grid scores, scales."""
    return {
        "maps": _draw_maps(readout),
        "spectra": _draw_spectra(readout),
        "covariance": _draw_covariance(readout),
        "grid_scores": _draw_scores(readout),
        "scales": _draw_scales(readout),
    }


def _draw_maps(readout: HostReadout) -> Figure:
    scores = readout["grid_score_60"]
    return figures.rate_maps(
        readout["rate_maps"],
        [f"{i}: {score:.2f}" for i, score in enumerate(scores)],
        extent_m=readout["extent_m"],
        title=f"All {len(scores)} maps in the order of their index\n"
        "above each map: its index, and its grid score (60 degrees)",
        colour_label="activity: lowest (0)\nto highest (1) of each map",
    )


def _draw_scores(readout: HostReadout) -> Figure:
    return figures.score_histogram(
        readout["grid_score_60"],
        readout["noise_grid_score_60"],
        thresholds=ratemaps.GRID_SCORE_THRESHOLDS,
        what="maps",
    )


def _width_m(readout: HostReadout) -> float:
    low, high = readout["extent_m"][0]
    return float(high - low)


def _draw_spectra(readout: HostReadout) -> Figure:
    """Fourier power, averaged over maps and of seven of them; the ring is where Sigma peaks."""
    power, k = readout["power"], readout["wave_vectors"]
    chosen = np.unique(np.linspace(0, len(power) - 1, 7).astype(int))
    shown = 100 * np.stack([power.mean(axis=0), *power[chosen]])
    titles = ["mean over all maps", *(f"map {i}" for i in chosen)]
    spectrum = readout["spectrum"].copy()
    spectrum[0, 0] = 0
    radius = np.linalg.norm(k, axis=-1)
    peak = radius.flat[np.argmax(spectrum)]
    reach = min(9, len(k) // 2)  # modes to each side of zero
    middle = len(k) // 2
    window = slice(middle - reach, middle + reach + 1)
    edge = (reach + 0.5) * k[1, 0, 0]
    angle = np.linspace(0, 2 * np.pi, 200)
    figure = Figure(figsize=(11, 5.8), layout="constrained")
    axes = figure.subplots(2, 4)
    shown = np.fft.fftshift(shown, axes=(1, 2))[:, window, window]
    for ax, image, title in zip(axes.flat, shown, titles, strict=False):
        figures.spatial_map(
            image,
            extent_m=((-edge, edge), (-edge, edge)),
            title=title,
            limits=(0, float(shown.max())),
            colour_map="magma",
            axis_labels=("", ""),
            ax=ax,
        )
        ax.plot(peak * np.cos(angle), peak * np.sin(angle), color="white", lw=0.8, ls=":")
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    figure.colorbar(
        axes[0, 0].get_images()[0], ax=axes, shrink=0.7, label="share of a map's variance (%)"
    )
    figure.supxlabel("$k_x$ (cycles/m)")
    figure.supylabel("$k_y$ (cycles/m)")
    figure.suptitle(
        f"Fourier power of the maps without their mean; dotted: the strongest wave of Σ, "
        f"{peak:.2f} cycles/m",
        fontsize=11,
    )
    return figure


def _draw_covariance(readout: HostReadout) -> Figure:
    """Sigma itself, and its eigenvalues against wave number with the wave numbers of the maps."""
    half = _width_m(readout) / 2
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    space, modes = figure.subplots(1, 2, width_ratios=(1, 1.5))
    top = float(np.abs(readout["covariance"]).max())
    figures.spatial_map(
        readout["covariance"],
        extent_m=((-half, half), (-half, half)),
        title="Covariance Σ of the place code",
        limits=(-top, top),
        colour_map="RdBu_r",
        colour_label="Σ (sum over the bins)",
        axis_labels=("shift in x (m)", "shift in y (m)"),
        ax=space,
    )
    draw_eigenvalues(readout, ax=modes)
    return figure


def draw_eigenvalues(readout: HostReadout, *, ax: Axes | None = None) -> Figure:
    """Eigenvalues of Sigma against wave number, and how many maps have each as their strongest."""
    ax = figures.axes_or_new(ax, (6.0, 4.2))
    spectrum, k = readout["spectrum"], np.linalg.norm(readout["wave_vectors"], axis=-1)
    near = k < 10 / _width_m(readout)
    top = float(spectrum[near].max())
    ax.plot(k[near], spectrum[near], ".", ms=4, color=figures.SIMULATED, label="eigenvalue of Σ")
    of_maps = 2 / (np.sqrt(3) * readout["spacing_m"])
    numbers, counts = np.unique(np.round(of_maps[np.isfinite(of_maps)], 3), return_counts=True)
    heights = 0.7 * top * counts / max(counts.max(initial=1), 1)
    ax.vlines(
        numbers, 0, heights, color=figures.RAT, lw=2.5, alpha=0.6, label="maps with this wave"
    )
    for number, count, height in zip(numbers, counts, heights, strict=True):
        ax.annotate(
            f"{count}", (number, height), ha="center", va="bottom", fontsize=8, color=figures.RAT
        )
    ax.set(xlabel="wave number |k| (cycles/m)", ylabel="eigenvalue of Σ", ylim=(0, 1.1 * top))
    ax.set_title("Eigenvalues, and the strongest wave of each map (number of maps)", fontsize=10)
    ax.legend(fontsize=8, loc="upper right")
    return figures.figure_of(ax)


def _draw_scales(readout: HostReadout) -> Figure:
    """Spacing and orientation against the map's index; grid-like maps are filled."""
    index = np.arange(len(readout["spacing_m"]))
    grid = readout["grid_score_60"] > 0.37
    # 59.9999 degrees are 0: rounded before the remainder.
    orientation = np.mod(np.round(readout["orientation_deg"], 3), 60)
    figure = Figure(figsize=(9, 5.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for ax, values, label in (
        (above, readout["spacing_m"], "grid spacing (m)"),
        (below, orientation, "orientation (degrees)"),
    ):
        ax.plot(index, values, "o", ms=5, mfc="none", color="C0", label="other maps")
        ax.plot(index[grid], values[grid], "o", ms=5, color="C0", label="grid score above 0.37")
        ax.set_ylabel(label)
    above.set_ylim(0, 1.3 * np.nanmax(readout["spacing_m"], initial=1e-3))
    above.legend(fontsize=8, ncols=2, loc="upper left")
    below.set(xlabel="index of the map", ylim=(-5, 65), yticks=(0, 15, 30, 45, 60))
    figure.suptitle(
        "Scale and orientation of each map, by its strongest Fourier mode\n"
        "both are discrete, as the modes of the box are; 60 degrees are 0",
        fontsize=11,
    )
    return figure
