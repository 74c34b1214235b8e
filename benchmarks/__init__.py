"""How fast Tintype is, measured side by side with the plain tools on the same machine in the same run."""
