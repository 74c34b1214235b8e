"""``python -m services.importer``."""

from __future__ import annotations

from services.importer.app import build
from services.importer.settings import ImporterSettings
from tintype.runtime.service import main

if __name__ == "__main__":
    main(ImporterSettings, "importer", "Brings the bytes of images in, and hands them out.", build)
