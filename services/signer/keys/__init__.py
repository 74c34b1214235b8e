"""Where the signer finds keys and certificates."""
