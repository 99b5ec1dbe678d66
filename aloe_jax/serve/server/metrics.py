"""What Prometheus reads at /metrics. Names and meanings are vLLM's where it has such a figure, with `aloe_` in place of
`vllm:`, so that a dashboard of vLLM needs one replacement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aloe_jax.serve.worker import Worker

LABELS = ("model_name",)
SECONDS = tuple(scale * step for scale in (0.001, 0.01, 0.1, 1.0, 10.0, 100.0) for step in (1.0, 2.5, 5.0))
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})  # a client can make up others, and each label is kept for ever


class Metrics:
    """The figures of a server and of its models."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.http_requests = Counter(
            "aloe_http_requests", "Requests that were answered.", ("handler", "method", "status"), registry=registry
        )
        self.prompts = Counter("aloe_prompt_tokens", "Prompt tokens of served requests.", LABELS, registry=registry)
        self.drawn = Counter("aloe_generation_tokens", "Tokens that were drawn.", LABELS, registry=registry)
        self.completions = Counter(
            "aloe_request_success", "Completions that ended.", (*LABELS, "finished_reason"), registry=registry
        )
        self.first_token = self._seconds("time_to_first_token", "From taking a request to its first token.")
        self.per_token = self._seconds(
            "request_time_per_output_token", "Mean per token of a completion, behind those that came first."
        )
        self.request = self._seconds("e2e_request_latency", "From taking a request to its last token.")

    def _seconds(self, name: str, meaning: str) -> Histogram:
        return Histogram(f"aloe_{name}_seconds", meaning, LABELS, registry=self._registry, buckets=SECONDS)

    def watch(self, workers: Sequence[tuple[str, Worker]]) -> None:
        """Also tell, at every reading, what the workers of these models are doing."""
        self._registry.register(_Doing(workers))

    def counted(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> ASGIApp:
        """`app`, whose answers are counted under the paths of `routes`."""
        return _Counted(app, routes, self.http_requests)

    def route(self) -> Route:
        """GET /metrics."""

        async def metrics(http: HttpRequest) -> Response:
            encode, media_type = choose_encoder(http.headers.get("accept", ""))
            return Response(encode(self._registry), headers={"Content-Type": media_type})

        return Route("/metrics", metrics)


class ModelMetrics:
    """The figures of one model's requests, told by its worker (`serve/pace.py`)."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._model, self._completions = model, metrics.completions
        self._prompts, self._drawn = metrics.prompts.labels(model), metrics.drawn.labels(model)
        self._first, self._per_token = metrics.first_token.labels(model), metrics.per_token.labels(model)
        self._request = metrics.request.labels(model)

    def first_token(self, seconds: float) -> None:
        self._first.observe(seconds)

    def tokens(self, count: int) -> None:
        self._drawn.inc(count)

    def completion(self, finish_reason: str, per_token: float | None) -> None:
        self._completions.labels(self._model, finish_reason).inc()
        if per_token is not None:
            self._per_token.observe(per_token)

    def request(self, prompt_tokens: int, seconds: float) -> None:
        self._prompts.inc(prompt_tokens)
        self._request.observe(seconds)


class _Doing(Collector):
    """What workers are doing when somebody looks."""

    def __init__(self, workers: Sequence[tuple[str, Worker]]) -> None:
        self._workers = workers

    def collect(self) -> Iterable[Metric]:
        running = GaugeMetricFamily("aloe_num_requests_running", "Requests that decode.", labels=LABELS)
        waiting = GaugeMetricFamily("aloe_num_requests_waiting", "Requests that wait.", labels=LABELS)
        used = GaugeMetricFamily("aloe_kv_cache_pages_used", "Pages of what is under way.", labels=LABELS)
        free = GaugeMetricFamily("aloe_kv_cache_pages_free", "Pages that can be taken.", labels=LABELS)
        share = GaugeMetricFamily("aloe_kv_cache_usage_perc", "Used pages among all; 1 is all of them.", labels=LABELS)
        asked = CounterMetricFamily("aloe_prefix_cache_queries", "Prompt tokens looked up in the pages.", labels=LABELS)
        found = CounterMetricFamily("aloe_prefix_cache_hits", "Prompt tokens found in the pages.", labels=LABELS)
        for name, worker in self._workers:
            state = worker.state
            running.add_metric([name], state.running)
            waiting.add_metric([name], worker.waiting)
            used.add_metric([name], state.used_pages)
            free.add_metric([name], state.pages - state.used_pages)
            share.add_metric([name], state.used_pages / state.pages)
            asked.add_metric([name], state.prefilled + state.found)
            found.add_metric([name], state.found)
        return running, waiting, used, free, share, asked, found


class _Counted:
    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], requests: Counter) -> None:
        self._app, self._routes, self._requests = app, routes, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        handler, method = self._handler(scope), scope["method"]

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = method if method in METHODS else "other"
                self._requests.labels(handler, known, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counted)

    def _handler(self, scope: Scope) -> str:
        """The path of the route that answers, without what a client fills in."""
        for route in self._routes:
            if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
                return route.path
        return "none"
