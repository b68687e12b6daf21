"""The parts of `scripts/stand_in_vllm.py`."""
