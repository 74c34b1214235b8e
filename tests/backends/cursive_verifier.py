"""Verifies an image's signature as Glance and Nova do: cursive, over castellan, over Barbican. A program of its own.

Arguments: Keystone's URL, Barbican's URL, user, password, project. On standard input: a JSON object with the four
properties, and `data` in base64. It ends with 0 if cursive is content, and else prints the class of its refusal.
"""

from __future__ import annotations

import base64
import json
import sys

from castellan import options
from castellan.common.credentials.keystone_password import KeystonePassword
from cursive import signature_utils
from oslo_config import cfg


def main(auth_url: str, barbican_url: str, user: str, password: str, project: str) -> str:
    """The class of the refusal, or nothing."""
    cfg.CONF([], project="cursive", default_config_files=[], default_config_dirs=[])
    options.set_defaults(cfg.CONF, backend="barbican", auth_endpoint=auth_url, barbican_endpoint=barbican_url)
    context = KeystonePassword(
        password,
        username=user,
        user_domain_id="default",
        project_name=project,
        project_domain_id="default",
        auth_url=auth_url,
    )
    asked = json.load(sys.stdin)
    try:
        verifier = signature_utils.get_verifier(
            context,
            asked["img_signature_certificate_uuid"],
            asked["img_signature_hash_method"],
            asked["img_signature"],
            asked["img_signature_key_type"],
        )
        verifier.update(base64.b64decode(asked["data"]))
        verifier.verify()
    except Exception as exc:
        print(exc, file=sys.stderr)
        return type(exc).__name__
    return ""


if __name__ == "__main__":
    refusal = main(*sys.argv[1:6])
    print(refusal)
    sys.exit(1 if refusal else 0)
