"""GPU evidence, by a worker process with NVIDIA's library, and what the GPUs are doing."""
