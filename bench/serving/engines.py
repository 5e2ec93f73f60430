"""The engines of one run: servers and processes, started when first needed, at rest in between."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from bench.engines import OPENVINO
from bench.models import MODELS
from bench.peers import llama_tools
from bench.peers.resident import ResidentEngine
from bench.serving import servers, workloads
from bench.serving.servers import Server
from bench.serving.workloads import COMPLETION_TOKENS, Figures, Prompts
from lepton.telemetry.machine import inspect_machine

LLAMA_SLOTS, LLAMA_CONTEXT = 16, 512
PLAIN = ("--speculation", "off", "--no-prefix-cache")


class Engines:
    """Each is warmed up by as many streams as are measured, so that its memory has been touched."""

    def __init__(self, warm_up: Prompts) -> None:
        self.threads = inspect_machine().threads
        self.q4_1 = MODELS["smollm2-q4_1"].obtain()
        self._warm_up = warm_up
        self._stack = ExitStack()
        self._servers: dict[str, Server] = {}
        self._processes: dict[str, ResidentEngine] = {}

    def close(self) -> None:
        """End every process."""
        self._stack.close()
        for process in self._processes.values():
            process.close()

    def lepton(self, precision: str, *options: str) -> Server:
        """``lepton serve`` with options, those of a plain comparison if none are given."""
        options = options or PLAIN
        name = " ".join(("lepton", precision, *options))
        chosen = ("--precision", precision, *options)
        return self._server(name, lambda: servers.lepton(self.q4_1, *chosen, name=name))

    def llama(self) -> Server:
        """llama-server on its fastest file."""
        llama_tools.prepare()
        path = MODELS["smollm2-q4_0"].obtain()
        slots, context = LLAMA_SLOTS, LLAMA_CONTEXT
        return self._server(
            "llama-server",
            lambda: servers.llama(path, self.threads, slots=slots, context=context),
        )

    def in_process(self, kind: str, prompts: Prompts) -> Figures:
        """All prompts at once without a server, by ``openvino`` or Lepton of a precision."""
        if kind not in self._processes:
            self._processes[kind] = self._engine(kind)
            self._processes[kind].prepare()
            self._processes[kind].complete(self.q4_1, self._warm_up, COMPLETION_TOKENS)
        seconds = self._processes[kind].complete(self.q4_1, prompts, COMPLETION_TOKENS)
        return {
            "tokens_per_second": len(prompts) * COMPLETION_TOKENS / seconds,
            "seconds": seconds,
        }

    def _server(self, name: str, start: Callable[[], AbstractContextManager[Server]]) -> Server:
        if name not in self._servers:
            self._servers[name] = self._stack.enter_context(start())
            workloads.closed(self._servers[name], self._warm_up)
        return self._servers[name]

    def _engine(self, kind: str) -> ResidentEngine:
        if kind == "openvino":
            return ResidentEngine(
                "openvino",
                "GenAI, continuous batching, prefix cache off",
                adapter="openvino",
                package="openvino-genai",
                threads=self.threads,
                environment=OPENVINO,
                options={"threads": self.threads, "prefix_cache": False},
            )
        return ResidentEngine(
            f"lepton {kind}",
            "in process",
            adapter="lepton",
            package="lepton",
            threads=self.threads,
            options={"precision": kind},
        )
