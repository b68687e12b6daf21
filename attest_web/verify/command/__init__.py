"""The command line of `tee-verify`."""
