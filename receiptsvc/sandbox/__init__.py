"""The simulated gateway, over real HTTP. It knows the gateway's wire format and nothing of the service.

with sandbox.running(sandbox.Options(default=("duplicate",))) as box:
    ...  # send to box.soap_url, then box.wait_idle(5) and look at box.report() and box.messages()
"""

from receiptsvc.sandbox.options import Options
from receiptsvc.sandbox.server import REST_PATH, SOAP_PATH, Box, running

__all__ = ["REST_PATH", "SOAP_PATH", "Box", "Options", "running"]
