"""How fast the models run here, each against a yardstick measured in the same run.

    python experiments/throughput                     # everything, some minutes on 2 CPU cores
    python experiments/throughput --list              # the names
    python experiments/throughput --only=train_4096 --only=walks
    python experiments/throughput --quick             # everything once, at its smallest size

Times are medians. What is compared is timed in turns, so that a busy machine slows both alike. The
floor of a training step is the time of its large matrix products alone: each product measured by
itself at the step's own shapes, times how often the step needs it.

A file a model: its SECTIONS are {name: (measurement, repeats)}. --quick only checks that they run.
"""

import argparse
from collections.abc import Sequence

import jax

from experiments.throughput import (
    arena,
    biohsic,
    decoders,
    dsm,
    grid_lstm,
    grid_rnn,
    helmholtz,
    pattern_formation,
    ratemaps,
    reservoir,
    topo_grid,
)

SECTIONS = {
    **helmholtz.SECTIONS,
    **arena.SECTIONS,
    **ratemaps.SECTIONS,
    **decoders.SECTIONS,
    **grid_rnn.SECTIONS,
    **grid_lstm.SECTIONS,
    **topo_grid.SECTIONS,
    **pattern_formation.SECTIONS,
    **biohsic.SECTIONS,
    **reservoir.SECTIONS,
    **dsm.SECTIONS,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of all sections, or of those that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=SECTIONS, help="may be repeated")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--quick", action="store_true", help="one repeat, at the smallest size")
    options = parser.parse_args(argv)
    if options.list:
        print("\n".join(SECTIONS))
        return
    device = jax.devices()[0]
    print(f"{jax.device_count()} x {device.device_kind} ({device.platform}), jax {jax.__version__}")
    for name in options.only or SECTIONS:
        measure, repeats = SECTIONS[name]
        repeats = 1 if options.quick else repeats
        print(f"\n{name} (median of {repeats})")
        for what, milliseconds, remark in measure(repeats, options.quick):
            print(f"  {what:<52}{milliseconds:>11.2f} ms   {remark}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
