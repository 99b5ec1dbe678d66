"""One HTTP exchange with a server: its key, the proxy and certificates of the environment, and errors as values."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import aiohttp
from yarl import URL

from aloe_jax.errors import InputError
from aloe_jax.serve.client.answers import Failure
from aloe_jax.serve.client.refusals import RawResponse

CERTIFICATES = "SSL_CERT_FILE"


def certificates() -> ssl.SSLContext:
    """The authorities that servers are checked against: those in SSL_CERT_FILE, else the system's. InputError for a
    file that holds none."""
    path = os.environ.get(CERTIFICATES)
    try:
        return ssl.create_default_context(cafile=path or None)
    except OSError as error:
        raise InputError(
            f"the file '{path}' in the environment variable {CERTIFICATES} cannot be used ({error.strerror or error}); "
            "name a file of certificates in PEM form, or unset it"
        ) from None


def proxy_of(url: URL) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY set for an address. InputError for one that is no
    HTTP proxy."""
    if not url.host or proxy_bypass_environment(f"{url.host}:{url.port}" if url.port else url.host):
        return None
    proxies = getproxies_environment()
    found = proxies.get(url.scheme) or proxies.get("all")
    if not found:
        return None
    proxy = found if "://" in found else f"http://{found}"
    if not proxy.startswith(("http://", "https://")):
        raise InputError(
            f"the proxy of {url.scheme.upper()}_PROXY or ALL_PROXY speaks {proxy.partition('://')[0]}; expected an "
            f"HTTP proxy; set that, or add {url.host} to NO_PROXY"
        )
    return proxy


def api_key(variable: str) -> str:
    """The key in the environment variable; empty if there is none. InputError for one that no header can carry."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        what = "a line break" if "\n" in key or "\r" in key else "a character that is not printable ASCII"
        raise InputError(f"the key in the environment variable {variable} holds {what}; set it to the key alone")
    return key


async def exchange(
    session: aiohttp.ClientSession, method: str, url: str, key: str, body: Mapping[str, object] | None, timeout: float
) -> RawResponse | Failure:
    """The server's response. Errors become values here: an aiohttp error can hold the request's headers, and with them
    the key, and must not become the context of ours."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    data = None
    if body is not None:
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        headers["Content-Type"] = "application/json"
    proxy = proxy_of(URL(url))
    try:
        async with session.request(
            method, url, data=data, headers=headers, allow_redirects=False, proxy=proxy
        ) as reply:
            return RawResponse(
                reply.status,
                await reply.read(),
                reply.headers.get("Retry-After"),
                reply.headers.get("Content-Type", ""),
                reply.headers.get("Location"),
            )
    except TimeoutError:
        reason = f"no answer within {timeout:g} seconds; raise the timeout or lower the concurrency"
        return Failure(reason, kind="no answer in time")
    except (aiohttp.ClientError, OSError) as error:
        return _failure(error, proxy)


def _failure(error: Exception, proxy: str | None) -> Failure:
    said = str(error) or type(error).__name__
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError)):
        hint = f"set {CERTIFICATES} to a file with its authority's certificate, or check base_url"
        return Failure(f"no secure connection to the server ({said}); {hint}", again=False, error=InputError)
    if "content-encoding" in said.lower() or "can not decode" in said.lower():
        hint = "switch that compression off there; only gzip and deflate were asked for"
        reason = f"the server's answer is compressed in a way that was not asked for ({said}); {hint}"
        return Failure(reason, again=False, error=InputError)
    if isinstance(error, (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError)):
        shown = URL(proxy or "").with_user(None)
        why = f"answers {error.status}" if isinstance(error, aiohttp.ClientHttpProxyError) else "cannot be reached"
        hint = "check HTTP_PROXY and HTTPS_PROXY, or name the server's host in NO_PROXY"
        return Failure(f"the proxy {shown} {why}; {hint}, then run the same command again", kind="no connection")
    via = f" through the proxy {URL(proxy).with_user(None)}" if proxy else ""
    reason = f"the server cannot be reached{via} ({said})"
    return Failure(f"{reason}; start it, then run the same command again", kind="no connection")
