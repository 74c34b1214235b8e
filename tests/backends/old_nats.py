"""The distribution's own nats-server, which is older than Tintype needs: unpacked for the tests, and never installed."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.backends.waiting import wait_until
