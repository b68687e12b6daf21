"""What NVIDIA says of GPUs: their evidence, the verdict of its service, and what a guest attested at boot."""
