"""What may be scanned: each kind gives the same pictures, and each way of being damaged is told."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unconv
from cases.scans import save_pictures
from unconv.errors import DtypeError, PictureError
from unconv.scan.opening import open_pictures


def tar_of(path, files, mode="w"):
    with tarfile.open(path, mode) as tar:
        for number, file in enumerate(files):
            tar.add(file, f"{number:04d}.png")
            label = file.parent.name.encode()
            member = tarfile.TarInfo(f"{number:04d}.cls")
            member.size = len(label)
            tar.addfile(member, io.BytesIO(label))
    return path


def parquet_of(path, files):
    pa, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    rows = [{"image": {"bytes": file.read_bytes(), "path": None}, "label": int(file.parent.name[-1])} for file in files]
    names = b'{"info": {"features": {"label": {"names": ["class0", "class1", "class2"], "_type": "ClassLabel"}}}}'
    table = pa.Table.from_pylist(rows).replace_schema_metadata({b"huggingface": names})
    parquet.write_table(table, path, row_group_size=7)
    return path


class Rows(torch.utils.data.Dataset):
    def __init__(self, files):
        self.files = files
        self.classes = ["class0", "class1", "class2"]
        self.targets = [int(file.parent.name[-1]) for file in files]

    def __len__(self):
        return len(self.files)

    def __getitem__(self, number):
        return Image.open(self.files[number]), self.targets[number]


def sources(folder, files):
    listing = folder / "list.txt"
    listing.write_text("".join(f"{file} {file.parent.name}\n" for file in files))
    stack = np.stack([np.asarray(Image.open(file)) for file in files])
    np.save(folder / "stack.npy", stack)
    np.savez(folder / "stack.npz", images=stack, labels=np.array([file.parent.name for file in files]), y=np.arange(len(files)))
    return {
        "folder": folder / "p",
        "list": files,
        "text": listing,
        "tar": tar_of(folder / "t.tar", files),
        "parquet": parquet_of(folder / "t.parquet", files),
        "npy": folder / "stack.npy",
        "npz": folder / "stack.npz",
        "array": stack,
        "dataset": Rows(files),
    }


def test_every_kind_gives_the_same_index(network, tmp_path):
    pytest.importorskip("pyarrow")
    files = save_pictures(tmp_path / "p", 18)
    found = {}
    for kind, source in sources(tmp_path, files).items():
        index = unconv.scan(network, source, tmp_path / f"index-{kind}", batch=4, shard=8)
        assert not index.damaged(), kind
        found[kind] = [[(e.picture, e.value) for e in index.top("4", channel)] for channel in range(4)]
        assert len(index.projections("4", 1)) == 9, kind
        if kind in ("folder", "text", "tar", "parquet", "dataset"):
            assert [p.label for p in index.pictures()] == [file.parent.name for file in files], kind
    assert all(entries == found["folder"] for entries in found.values())


@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_a_tar_that_is_cut_off_gives_what_is_before_the_cut_and_says_so(network, tmp_path, share):
    files = save_pictures(tmp_path / "p", 12)
    path = tar_of(tmp_path / "t.tar", files)
    end = len(files) * 2048  # a picture and a label, each with its header
    path.write_bytes(path.read_bytes()[: int(end * share)])
    listing = open_pictures(path)
    assert 0 < len(listing) <= 12
    index = unconv.scan(network, listing, tmp_path / "i", batch=4, shard=8)
    assert "its end is missing" in listing.faults[0] or "damaged after" in listing.faults[0]
    assert all("cut off" in p.reason for p in index.damaged())


def test_a_whole_tar_has_no_fault(tmp_path):
    assert open_pictures(tar_of(tmp_path / "t.tar", save_pictures(tmp_path / "p", 3))).faults == ()


def test_a_packed_tar_says_how_to_unpack_it(tmp_path):
    tar_of(tmp_path / "t.tar.gz", save_pictures(tmp_path / "p", 3), "w:gz")
    with pytest.raises(PictureError, match=r"compressed by gzip.*gzip -dk t\.tar\.gz"):
        open_pictures(tmp_path / "t.tar.gz")


def test_a_stream_is_refused_with_what_to_do():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from ()

    for stream in (Stream(), iter([1, 2])):
        with pytest.raises(DtypeError, match=r"a stream without a length.*Save it as \.tar files"):
            open_pictures(stream)


def test_a_data_set_that_draws_random_numbers_is_refused():
    class Noise(Rows):
        def __getitem__(self, number):
            return torch.rand(3, 12, 12)

    with pytest.raises(PictureError, match="two different pictures"):
        open_pictures(Noise([Path("class0/x.png")] * 3))


def test_a_table_names_no_file_of_the_machine(network, tmp_path):
    pa, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": None, "path": "/etc/hostname"}, {"bytes": None, "path": "../x.png"}]
    parquet.write_table(pa.table({"image": pa.array(rows, kind)}), tmp_path / "t.parquet")
    index = unconv.scan(network, tmp_path / "t.parquet", tmp_path / "i", batch=4, shard=8)
    assert ["does not lie beside" in p.reason for p in index.damaged()] == [True, True]


def test_files_that_are_no_pictures_are_left_out_and_counted(tmp_path):
    save_pictures(tmp_path, 3)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.png").write_text("x")
    listing = open_pictures(tmp_path)
    assert (len(listing), listing.left_out) == (3, 1)


def test_a_folder_that_leads_back_to_itself_is_walked_once(tmp_path):
    save_pictures(tmp_path, 3)
    (tmp_path / "class0" / "loop").symlink_to(tmp_path)
    assert len(open_pictures(tmp_path)) == 3


@pytest.mark.parametrize("mode", ["L", "CMYK", "I;16", "RGBA", "P", "1"])
def test_pictures_of_every_mode_are_read(network, tmp_path, mode):
    size = (14, 14)
    picture = Image.new("I;16", size, 3000) if mode == "I;16" else Image.new("RGB", size, "red").convert(mode)
    picture.save(tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png"))
    index = unconv.scan(network, tmp_path, tmp_path / "i", batch=2, shard=2)
    assert not index.damaged()


def test_content_counts_not_the_name(network, tmp_path):
    files = save_pictures(tmp_path / "p", 3)
    files[0].rename(files[0].with_suffix(".jpg"))
    assert not unconv.scan(network, tmp_path / "p", tmp_path / "i", batch=2, shard=2).damaged()
