"""Who vouches for an image: signatures, certificates, attestations and checkpoints. No I/O but of local
files, and the `openssl` program for curves that `cryptography` does not know.

The signer judges by it on an image's road, and the SDK before it gives a download its name: both by the same code.
"""
