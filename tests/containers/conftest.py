"""An engine, the images of this tree, and the whole deployment that `make up` makes: `make test-containers`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.backends.containers import ContainerEngine, container_engine
from tools import deployment


@pytest.fixture(scope="session")
def engine() -> Iterator[ContainerEngine]:
    with container_engine() as found:
        yield found


@pytest.fixture(scope="session")
def images(engine: ContainerEngine) -> str:
    """The images, built from this tree; ``IMAGES/TARGET:VERSION`` up to and without ``/TARGET``."""
    deployment.build_images(deployment.find_engine(), os.environ)
    return os.environ.get("TINTYPE_IMAGES", deployment.REPOSITORY)
