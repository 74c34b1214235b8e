"""``python -m services.signer``."""

from __future__ import annotations

from services.signer.app import build
from services.signer.settings import SignerSettings
from tintype.runtime.service import main

if __name__ == "__main__":
    main(SignerSettings, "signer", "Verifies the publisher's signature of every image.", build)
