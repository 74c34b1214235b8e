"""``python -m services.converter``."""

from __future__ import annotations

from services.converter.app import build
from services.converter.settings import ConverterSettings
from tintype.runtime.service import main

if __name__ == "__main__":
    main(ConverterSettings, "converter", "Brings imported disks into the format that the deployment prefers.", build)
