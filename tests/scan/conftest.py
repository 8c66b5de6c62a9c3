"""A network and a folder of pictures for the tests of scans."""

from __future__ import annotations

import pytest

from cases.scans import save_pictures, small


@pytest.fixture
def network():
    return small()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    save_pictures(folder, 45)
    return folder
