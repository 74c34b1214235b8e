"""The deployables. Each is thin, stands alone and imports no other; what two of them need lives in :mod:`tintype`."""
