"""GPU evidence, by a worker process with NVIDIA's library, and the GPUs' metrics."""
