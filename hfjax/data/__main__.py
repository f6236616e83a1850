"""Make a data set of transitions: `python -m hfjax.data NAME --out=FILE`."""

import argparse
import functools
import inspect

from hfjax.data import transitions


def main() -> None:
    """Make a data set and write it."""
    parser = argparse.ArgumentParser(
        prog="hfjax.data",
        usage="python -m hfjax.data NAME --out=FILE [--SETTING=VALUE ...]   (--help lists them)",
        description=transitions.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=transitions.MAKERS)
    parser.add_argument("--out", required=True, help="file to write, an npz")
    makers_of: dict[str, list[str]] = {}  # the makers that have a setting, by its name
    for name, maker in transitions.MAKERS.items():
        for setting in inspect.signature(maker).parameters:
            makers_of.setdefault(setting, []).append(name)
    for setting, makers in makers_of.items():
        default = inspect.signature(transitions.MAKERS[makers[0]]).parameters[setting].default
        of = f"of {', '.join(makers)}"
        if setting == "behaviour":
            parser.add_argument("--behaviour", choices=transitions.BEHAVIOURS, help=of)
        elif setting == "moves":
            parser.add_argument("--moves", choices=("upwards", "downwards"), help=of)
        elif not isinstance(default, bool):
            parser.add_argument(f"--{setting}", type=type(default), help=of)
    options = vars(parser.parse_args())
    made, out = options.pop("name"), options.pop("out")
    settings = {name: value for name, value in options.items() if value is not None}
    if "behaviour" in settings:
        settings["behaviour"] = transitions.BEHAVIOURS[settings["behaviour"]]
    if "moves" in settings:
        settings["moves"] = getattr(transitions, settings["moves"])
    try:
        maker = functools.partial(transitions.MAKERS[made], **settings)
        data = transitions.saved_or_made(path=out, maker=maker)
    except (ValueError, TypeError, OSError) as error:
        parser.error(str(error))
    print(f"{out}: {len(data['states']):,} states of {data['states'].shape[1]} numbers")


if __name__ == "__main__":
    main()
