"""The HTTP server: OpenAI's API, health, metrics and the web page over one engine."""

from lepton.server.app import create_app
from lepton.server.run import bind, serve
from lepton.server.settings import ServerSettings

__all__ = ["ServerSettings", "bind", "create_app", "serve"]
