"""`tee-signer`: mitmdump with the addon, its port and upstream taken from the settings."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mitmproxy.tools.main import mitmdump

from attest_web.settings import Settings, SettingsError, load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proxy until it is stopped; return the exit status."""
    lines = [f"  {field.upper():<28}{info.description}" for field, info in Settings.model_fields.items()]
    parser = argparse.ArgumentParser(
        prog="tee-signer",
        usage="tee-signer [MITMDUMP ARGUMENTS]",
        description="Run the signing proxy. Settings come from the environment; all arguments go to mitmdump.",
        epilog="settings:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _, rest = parser.parse_known_args(arguments)
    try:
        settings = load_settings()
    except SettingsError as error:
        for problem in error.problems:
            print(f"tee-signer: {problem}", file=sys.stderr)  # noqa: T201  # there is no log yet
        return 1
    script = Path(__file__).with_name("tee_signer.py")
    mode = f"reverse:{settings.vllm_base_url}"
    mitmdump(["-s", str(script), "--mode", mode, "-p", str(settings.listen_port), *rest])
    return 0
