"""The parts of the dstack simulator: a dstack guest, and the TDX platform that signs its quotes."""
