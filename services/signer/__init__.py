"""The signer: verifies the publisher's signature over the staged bytes, before anything else touches them."""
