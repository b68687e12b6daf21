"""`tee-signer`: mitmdump with the addon, its port and upstream taken from the settings."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mitmproxy import version as mitmproxy_version
from mitmproxy.tools.main import mitmdump

from attest_web.settings import LaunchSettings, Settings, SettingsError, load_settings
from attest_web.version import release


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proxy until it is stopped; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="tee-signer",
        usage="tee-signer [MITMDUMP ARGUMENTS]",
        description="Run the signing proxy. Settings come from the environment; all arguments go to mitmdump.",
        epilog="settings:\n" + "\n".join(_described_settings()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"tee-signer {release()} (mitmproxy {mitmproxy_version.VERSION})"
    parser.add_argument("--version", action="version", version=version)
    _, rest = parser.parse_known_args(arguments)
    try:
        settings = load_settings(LaunchSettings)
    except SettingsError as error:
        for problem in error.problems:
            print(f"tee-signer: {problem}", file=sys.stderr)  # noqa: T201  # there is no log yet
        return 1
    script = Path(__file__).with_name("tee_signer.py")
    mode = f"reverse:{settings.vllm_base_url}"
    mitmdump(["-s", str(script), "--mode", mode, "-p", str(settings.listen_port), *rest])
    return 0


def _described_settings() -> list[str]:
    lines = []
    for field, info in Settings.model_fields.items():
        default = "required" if info.is_required() else info.default
        shown = "" if default is None else f" [{int(default) if isinstance(default, bool) else default}]"
        lines.append(f"  {field.upper():<28}{info.description}{shown}")
    return lines
