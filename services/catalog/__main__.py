"""``python -m services.catalog``."""

from __future__ import annotations

from services.catalog.app import build
from services.catalog.settings import CatalogSettings
from tintype.runtime.service import main

if __name__ == "__main__":
    main(CatalogSettings, "catalog", "What images there are, and what happened to them.", build)
