"""Write the files that the README's commands name, small ones, into a folder (by default the one you are in).

python examples/readme_files.py play

They stand in for files of your own: photographs are copies of those in the box, networks untrained, signals synthetic. Seismic
files need the extra `seismic`.
"""

import shutil
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models

from unconv.box import demo_pictures
from unconv.inverse import Convolution, psf

NETWORK = '''"""Stands in for a trained network of yours: `make` returns it."""

from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU())
'''

RANDOM = np.random.default_rng(0)


def ricker(hertz: float, rate: float, samples: int) -> np.ndarray:
    """Give Ricker's wavelet, its peak in the middle."""
    turn = (np.pi * hertz * (np.arange(samples) - samples // 2) / rate) ** 2
    return (1 - 2 * turn) * np.exp(-turn)


def photographs(folder: Path) -> None:
    """Write photos/, cat.jpg, coffee.jpg, the cat shaken, and blurred/, the photographs out of focus."""
    for name in ("photos", "blurred"):
        (folder / name).mkdir(exist_ok=True)
    for path in demo_pictures():
        shutil.copy(path, folder / "photos")
        _blurred(path, psf.disk(3)).save(folder / "blurred" / f"{path.stem}.png")
    for name in ("cat.jpg", "coffee.jpg"):
        shutil.copy(folder / "photos" / name, folder)
    _blurred(folder / "cat.jpg", psf.motion(15, 30)).save(folder / "shaken.png")


def _blurred(path: Path, kernel: torch.Tensor) -> Image.Image:
    with Image.open(path) as picture:
        samples = torch.from_numpy(np.array(picture)).permute(2, 0, 1).double()
    blurred = Convolution(kernel.double(), samples.shape, "unknown").forward(samples).round().clamp(0, 255).byte()
    return Image.fromarray(blurred.permute(1, 2, 0).numpy())


def networks(folder: Path) -> None:
    """Write an untrained network in a file, and random weights where yours would be."""
    (folder / "my_network.py").write_text(NETWORK)
    torch.manual_seed(0)
    save_file(models.squeezenet1_1().state_dict(), folder / "squeezenet.safetensors")


def scans(folder: Path) -> None:
    """Write an A-scan with two echoes, and the echo of one reflector."""
    pulse = ricker(5e6, 100e6, 61)
    clean = np.zeros(400)
    clean[[150, 156]] = 1.0, -0.8
    np.save(folder / "reference.npy", pulse)
    np.save(folder / "scan.npy", np.convolve(clean, pulse, "same") + 0.01 * RANDOM.standard_normal(400))


def line(folder: Path) -> None:
    """Write a seismic line of eight traces as SEG-Y."""
    import segyio

    spikes = (RANDOM.random((8, 500)) < 0.05) * RANDOM.standard_normal((8, 500))
    traces = np.array([np.convolve(row, ricker(25, 500, 81), "same") for row in spikes], dtype=np.float32)
    segyio.tools.from_array(str(folder / "line.sgy"), traces + 0.05 * RANDOM.standard_normal(traces.shape, np.float32), dt=2000)


def earthquake(folder: Path) -> None:
    """Write a station's record of one distant earthquake, with the catalogue and the inventory that tell where both are."""
    from obspy import Stream, Trace, UTCDateTime
    from obspy.core.event import Catalog, Event, Origin
    from obspy.core.inventory import Channel, Inventory, Network, Site, Station
    from obspy.geodetics import gps2dist_azimuth, locations2degrees
    from obspy.taup import TauPyModel

    station, origin = (0.0, 0.0), Origin(time=UTCDateTime(2026, 1, 1), latitude=30.0, longitude=40.0, depth=10e3)
    degrees = locations2degrees(origin.latitude, origin.longitude, *station)
    arrival = origin.time + TauPyModel("iasp91").get_travel_times(10, degrees, ["P"])[0].time
    back = np.deg2rad(gps2dist_azimuth(origin.latitude, origin.longitude, *station)[2])
    rate, source = 20.0, np.convolve(RANDOM.standard_normal(200), ricker(0.5, 20, 81), "same")
    response = np.zeros(3000)
    response[1200], response[1280] = 0.5, 0.2  # the direct wave at 60 s, and the one converted at the crust's base 4 s later
    vertical, radial = np.zeros(3000), np.convolve(response, source)[:3000]
    vertical[1200:1400] = source
    samples = {"Z": vertical, "N": -np.cos(back) * radial, "E": -np.sin(back) * radial}
    begin = {"network": "XX", "station": "ONE", "sampling_rate": rate, "starttime": arrival - 60}
    traces = [Trace(data.astype(np.float32), begin | {"channel": f"BH{letter}"}) for letter, data in samples.items()]
    Stream(traces).write(str(folder / "event.mseed"), "MSEED")
    Catalog([Event(origins=[origin])]).write(str(folder / "events.xml"), "QUAKEML")
    where = {"latitude": station[0], "longitude": station[1], "elevation": 0.0}
    channels = [Channel(f"BH{letter}", "", depth=0.0, sample_rate=rate, **where) for letter in samples]
    network = Network("XX", stations=[Station("ONE", site=Site("unconv"), channels=channels, **where)])
    Inventory(networks=[network]).write(str(folder / "inventory.xml"), "STATIONXML")


def link(folder: Path) -> None:
    """Write QPSK at four samples a symbol through an echo, as complex64, and the symbols that the receiver knows."""
    symbols = np.exp(0.5j * np.pi * (RANDOM.integers(0, 4, 1_000) + 0.5))
    sent = np.repeat(symbols, 4) / 2
    received = np.convolve(sent, [1.0, 0, 0, 0, 0.4j])[: len(sent)]
    received += 0.02 * (RANDOM.standard_normal(len(sent)) + 1j * RANDOM.standard_normal(len(sent)))
    received.astype(np.complex64).tofile(folder / "capture.cf32")
    np.save(folder / "preamble.npy", symbols[:64])


def rooms(folder: Path) -> None:
    """Write a whisper that comes and goes like syllables: in a room, at two microphones; with an echo; and that echo."""
    rate = 16_000
    time = np.arange(3 * rate) / rate
    throat = np.exp(-np.arange(400) / 60) * np.cos(2 * np.pi * 700 * np.arange(400) / rate)
    dry = np.convolve(RANDOM.standard_normal(len(time)), throat)[: len(time)] * np.clip(np.sin(4 * np.pi * time), 0.05, None)
    room = np.exp(-np.arange(4_800) / 700) * RANDOM.standard_normal((2, 4_800)) * 0.1
    room[:, 0] = 1
    echo = np.zeros(4_000)
    echo[[0, 3_200]] = 1, 0.4
    responses = {"array-1": room[0], "array-2": room[1], "talk": echo}
    signals = {name: np.convolve(dry, response)[: len(dry)] for name, response in responses.items()}
    for name, samples in (signals | {"responses": echo}).items():
        _write_wav(folder / f"{name}.wav", samples, rate)


def _write_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples / abs(samples).max() * 30_000).astype("<i2").tobytes())


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    writers: list[Callable[[Path], None]] = [photographs, networks, scans, link, rooms, line, earthquake]
    for write in writers:
        try:
            write(folder)
            print(f"{write.__name__}: written")
        except ModuleNotFoundError as error:
            print(f'{write.__name__}: left out, as {error.name} is missing. pip install -e ".[seismic]", then run this again.')


if __name__ == "__main__":
    main()
