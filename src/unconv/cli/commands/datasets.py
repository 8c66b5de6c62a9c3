"""Commands for data sets: scan one, list or draw what its units respond to, and publish it as a site or live page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unconv.cli.groups import Group
from unconv.cli.options import AsJson, At, Method, Model, Quiet, opens_network
from unconv.cli.parsing import read_rules
from unconv.cli.preparing import open_network, saying
from unconv.cli.progress import print_table, remark, show_progress
from unconv.errors import ModelError, counted

if TYPE_CHECKING:
    from unconv.scan import Index

GROUP = Group("Data sets", 2)

Folder = Annotated[Path, typer.Argument(help="The folder of a scan that `unconv index` wrote.")]


@GROUP.command
@opens_network
def index(
    model: Model,
    opening: dict[str, Any],
    pictures: Annotated[
        Path,
        typer.Argument(
            help="A folder of pictures, with subfolders as labels; a .tar, .parquet, .npy or .npz file, or a folder of them; "
            "or a text file with one picture per line."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to write. An unfinished scan in it continues.")] = Path(
        "unconv-index"
    ),
    at: At = None,
    keep: Annotated[int, typer.Option(help="Pictures to keep for each unit.")] = 32,
    lowest: Annotated[bool, typer.Option("--lowest", help="Also keep the smallest values of each unit.")] = False,
    maxima: Annotated[bool, typer.Option(help="Keep every picture's maxima, 2 bytes per unit and picture.")] = True,
    part: Annotated[
        str,
        typer.Option(
            help="Do one part of the scan: 3/16 is the third of sixteen processes or machines that write to the same folder."
        ),
    ] = "1/1",
    batch: Annotated[
        int | None, typer.Option(help="Pictures per batch. Default: 16, or 8 where the maps are large; 64 on a GPU.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads that read pictures. Default: one per core.")] = None,
    devices: Annotated[
        str | None, typer.Option(help='Start a process for each device: "cuda:0,cuda:1"; or "all" for every GPU or every core.')
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(help='"local", or the address of a Ray cluster. All its machines must be able to read the pictures.'),
    ] = None,
    cores: Annotated[
        int | None, typer.Option(help="Threads per process on a CPU. A resumed scan keeps the number it began with.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the scan in the folder. This is the default.")] = False,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Exit with status 0 even if some pictures could not be read.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find every unit's strongest pictures in a data set. A scan that was stopped, or whose folder has grown, continues."""
    from unconv.scan import scan_part
    from unconv.scan.opening import open_pictures

    listing = open_pictures(pictures)
    if listing.left_out:
        remark(f"left out {counted(listing.left_out, 'file')} in {pictures}, not named like pictures.", as_json or quiet)
    network = open_network(model, quiet, **opening)
    if network.weights == "random":
        words = "the weights are random, and drawn anew each time: figure, site and serve cannot open this network again, and a"
        remark(f"{words} stopped scan cannot continue. Pass --weights DEFAULT or a file.", as_json or quiet)
    with show_progress(as_json or quiet, "trying the network") as progress:
        report = saying(network.preparation, as_json or quiet, progress)
        settings: dict[str, Any] = {"lowest": lowest, "maxima": maxima, "batch": batch, "threads": threads}
        settings |= {"devices": devices, "ray": ray, "cores": cores}
        result = scan_part(network, listing, out, part, at or None, keep, report, **settings)
    if result is None:
        remark(f"part {part} is done; the index is written when all parts are done.", as_json or quiet)
        if as_json:
            print(json.dumps({"part": part, "whole": False}))
        return
    _report_result(result, listing.faults, skip_damaged, as_json, quiet)


@GROUP.command
def top(
    folder: Folder,
    at: Annotated[str | None, typer.Option(help="A place that was scanned. Default: list all of them.")] = None,
    channel: Annotated[int, typer.Option(help="The channel, counted from 0.")] = 0,
    n: Annotated[int, typer.Option("-n", help="Number of pictures.")] = 9,
    distinct: Annotated[
        bool, typer.Option("--distinct", help="Leave out pictures nearly identical to a stronger one.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the strongest pictures of a unit in a scan, or the places that were scanned."""
    from unconv.scan import Index

    scan = Index(folder)
    if at is None:
        _list_places(scan, as_json)
        return
    entries = scan.top(at, channel, n, distinct)
    if as_json:
        print(json.dumps([asdict(entry) for entry in entries], indent=1))
        return
    rows = [
        (str(e.rank + 1), f"{e.value:.4g}", e.key, e.label or "", _joined(e.position), _joined(e.box), _near(e.near))
        for e in entries
    ]
    title = f"{scan.run['network']}, {at}, channel {channel}" + ("" if entries else ": it responded to no picture")
    print_table(("rank", "activation", "picture", "label", "unit", "box", "nearly identical to"), rows, title)


@GROUP.command
def figure(
    folder: Folder,
    at: Annotated[list[str], typer.Option(help="A place that was scanned; may be repeated.")],
    channels: Annotated[str, typer.Option(help='Channels: 3,17; or "random:4" for four that respond, at random.')] = "random:3",
    seed: Annotated[int, typer.Option(help="Seed for the choice of random channels.")] = 0,
    n: Annotated[int, typer.Option("-n", help="Pictures per unit.")] = 9,
    columns: Annotated[int, typer.Option("--columns", help="Units per row.")] = 3,
    rows: Annotated[int | None, typer.Option("--rows", help="Rows of units, in place of --columns.", min=1)] = None,
    side: Annotated[int, typer.Option("--side", help="Largest side of a tile, in pixels.")] = 64,
    distinct: Annotated[bool, typer.Option(help="Leave out pictures nearly identical to a stronger one.")] = True,
    method: Method = "deconvnet",
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write: .png, .pdf or .svg.")] = Path("figure.png"),
    quiet: Quiet = False,
) -> None:
    """Draw figure 2 of the paper: each unit's projections in its strongest pictures, beside the patches it saw."""
    from unconv.report.figure import chosen_units, save_figure
    from unconv.scan import Index

    index = Index(folder)
    units = chosen_units(index, at, channels, seed)
    columns = columns if rows is None else -(-len(units) // rows)
    for note in save_figure(index, out, units, n, columns, side, distinct, read_rules(method)):
        remark(note, quiet)
    if channels.startswith("random"):
        named = ", ".join(f"{place} {channel}" for place, channel in units)
        remark(f"units drawn with seed {seed}: {named}.", quiet)
    print(f"wrote {out}")


@GROUP.command
def site(
    folder: Folder,
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to write. A stopped run continues where it was.")] = Path(
        "unconv-site"
    ),
    n: Annotated[int, typer.Option("-n", help="Pictures per unit.")] = 9,
    distinct: Annotated[bool, typer.Option(help="Leave out pictures nearly identical to a stronger one.")] = True,
    method: Method = "deconvnet",
    packed: Annotated[bool, typer.Option("--zip", help="Also pack the folder into one .zip file beside it.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a page for every unit, layer and picture of a scan, in a folder that opens in a browser or on any server."""
    from unconv.scan import Index
    from unconv.web import write_site, zipped

    with show_progress(quiet, "reading the index") as progress:
        missing = write_site(Index(folder), out, n, distinct, read_rules(method), progress)
    for note in missing:
        remark(f"not shown: {note}", quiet)
    print(f"wrote {out / 'index.html'}")
    if packed:
        folder_path = out.resolve()
        zipped(folder_path, path := folder_path.with_name(f"{folder_path.name}.zip"))
        print(f"wrote {path}")
    if missing:
        raise typer.Exit(1)


@GROUP.command
@opens_network
def serve(
    model: Annotated[
        str, typer.Argument(help="The folder of a scan that `unconv index` wrote, or a model as for the other commands.")
    ],
    opening: dict[str, Any],
    site: Annotated[Path | None, typer.Option(help="Also serve the site of that scan, which `unconv site` wrote.")] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on. By default, other machines cannot connect.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 chooses a free one.", min=0, max=65535)] = 0,
    quiet: Quiet = False,
) -> None:
    """Serve a page on which to drop a picture, drag over a part of it and click the units that respond. Ctrl-C ends it."""
    from unconv.scan.run import FILE
    from unconv.web import Live
    from unconv.web import serve as listen

    if (Path(model) / FILE).is_file():
        from unconv.scan import Index

        # A scan names its network and preprocessing: options on them would be silently ignored.
        if options_given := [name for name, value in opening.items() if value]:
            raise ModelError(
                f"serve: --{options_given[0]} is for models, but {model} is a scan, which names its own network. Leave it out."
            )
        scan = Index(model)
        live = Live(scan.network, scan)
    else:
        live = Live(open_network(model, quiet, **opening))

    def announce(address: str) -> None:
        print(f"serving {live.network.name} at {address}", flush=True)
        remark("the address contains a token; Ctrl-C ends the server.", quiet)

    listen(live, site, host, port, announce)


def _report_result(result: Index, faults: tuple[str, ...], skip_damaged: bool, as_json: bool, quiet: bool) -> None:
    """Report a scan's result and the pictures that are missing; exit with status 1 if there are any."""
    damaged = result.damaged()
    units = result.units()
    numbers = {
        "folder": str(result.folder),
        "network": result.run["network"],
        "pictures": len(result.pictures()),
        "read": len(result.pictures()) - len(damaged),
        "damaged": [{"key": picture.key, "reason": picture.reason} for picture in damaged],
        "faults": list(faults),
        "places": len(result.places),
        "units": len(units),
        "dead": sum(unit.dead for unit in units),
    }
    for picture in damaged:
        remark(f"not read: {picture.key}: {picture.reason}", quiet)
    for fault in faults:
        remark(f"lost: {fault}", quiet)
    if as_json:
        print(json.dumps(numbers, indent=1))
    else:
        counts = (
            f"{counted(numbers['units'], 'unit')} of {counted(numbers['places'], 'place')}, {numbers['dead']:,} of them dead"
        )
        print(f"wrote {result.folder}: {counts}, over {numbers['read']:,} of {counted(numbers['pictures'], 'picture')}")
    # Status 1 although the index is written, so that a script notices lost pictures.
    if (damaged or faults) and not skip_damaged:
        raise typer.Exit(1)


def _list_places(scan: Index, as_json: bool) -> None:
    counts: dict[str, list[int]] = {place: [0, 0] for place in scan.places}
    for unit in scan.units():
        counts[unit.place][0] += 1
        counts[unit.place][1] += unit.dead
    if as_json:
        print(json.dumps([{"place": place, "units": n, "dead": dead} for place, (n, dead) in counts.items()], indent=1))
        return
    rows = [(place, str(n), str(dead)) for place, (n, dead) in counts.items()]
    print_table(
        ("place", "units", "dead"), rows, f"{scan.run['network']}, {counted(len(scan.pictures()), 'picture')}", right=True
    )


def _joined(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))


def _near(rank: int | None) -> str:
    return "" if rank is None else f"rank {rank + 1}"
