"""Headers and tables of disk formats, and the rules that all such tables obey."""

from __future__ import annotations
