"""GPU evidence, the verdict of NVIDIA's service on it, and the attestation of GPUs at boot."""
