"""The addons that show flows in mitmweb and in the console: loaded only there."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from mitmproxy.addons.view import View

from addons.exchange.exchanges import Exchanges
from addons.inspection.commands import InspectionCommands, report_of, stats_lines
from addons.inspection.content_view import TeeProof
from addons.inspection.flow_list import FlowList
from addons.inspection.inspection import Inspection, OriginalRequestProbe
from addons.signing.signer import Signer
from attest_web.attestation.report_cache import ReportCache
from attest_web.metrics import Metrics
from attest_web.settings import Settings
from attest_web.signatures import SigningAlgo
from attest_web.stores.signature_store import SignatureStore


class InspectionChain:
    """Makes the addons of the inspection.

    Attributes:
        inspection: Stores request bodies outside the flows, for the layers.
    """

    def __init__(self, view: View, exchanges: Exchanges, settings: Settings) -> None:
        """Make the addon that the layers need; `around` makes the others.

        Args:
            view: mitmproxy's list of flows.
            exchanges: The records of the exchanges.
            settings: The settings, which tell what is kept.
        """
        self.inspection = Inspection(view, exchanges, keeps_plaintext=settings.keeps_plaintext)
        self._keep_flows = settings.keep_flows

    def around(
        self, chain: Sequence[Any], signer: Signer, metrics: Metrics, store: SignatureStore, report_cache: ReportCache
    ) -> Sequence[Any]:
        """A chain of addons with those of the inspection inserted.

        Args:
            chain: All other addons.
            signer: The first addon in it that may change request bodies.
            metrics: This proxy's metrics.
            store: The store of signatures.
            report_cache: Returns attestation reports.
        """
        addresses: dict[SigningAlgo, str] = {
            "ecdsa": signer.keys.ecdsa_address,
            "ed25519": signer.keys.ed25519_address,
        }
        at = list(chain).index(signer)
        return [
            *chain[:at],
            OriginalRequestProbe(self.inspection),
            *chain[at:],
            self.inspection,
            FlowList(self.inspection.view, self._keep_flows),
            TeeProof(self.inspection, addresses),
            InspectionCommands(
                self.inspection,
                addresses,
                partial(report_of, report_cache),
                lambda: stats_lines(metrics, degraded=store.degraded),
            ),
        ]
