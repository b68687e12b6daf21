"""The parts of the dstack simulator: what a dstack guest says, and the TDX platform that vouches for it."""
