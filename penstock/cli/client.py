"""One HTTP client for every command: the key, the pages, and errors that say what to do next.

Imported at first use only: the HTTP library takes longer to load than everything else of a command.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from penstock import __version__
from penstock.cli.context import Target
from penstock.cli.errors import REFUSED, UNREACHABLE, CliError
from penstock.cli.light_httpx import httpx

Document = dict[str, Any]
PAGE = 500  # items asked for at once while following pages
_TIMEOUT_SECONDS = 60.0


class Client:
    """Speaks to one factory; close it when done."""

    def __init__(self, target: Target, *, transport: httpx.BaseTransport | None = None) -> None:
        self.target = target
        headers = {"User-Agent": f"penstock-cli/{__version__}"}
        if target.api_key:
            headers["Authorization"] = f"Bearer {target.api_key}"
        try:
            self._http: httpx.Client = httpx.Client(
                base_url=target.url,
                headers=headers,
                timeout=_TIMEOUT_SECONDS,
                transport=transport,
                # Loading the certificate store takes longer than the request; plain HTTP never looks at it.
                verify=target.url.startswith("https://"),
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise CliError(f"'{target.url}' is not the address of a factory: {error}", UNREACHABLE) from error

    def close(self) -> None:
        """Give the connection back."""
        self._http.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Document:
        """Return the document at ``path``; parameters that are None are left out."""
        return self.request("GET", path, params=params)

    def post(self, path: str, body: Mapping[str, Any] | None = None, **more: Any) -> Document:
        """Send ``body`` (its None values stay) and return the answer."""
        return self.request("POST", path, body=body if body is not None else {}, **more)

    def put(self, path: str, body: Mapping[str, Any]) -> Document:
        """Replace what is at ``path`` and return the answer."""
        return self.request("PUT", path, body=body)

    def delete(self, path: str, params: Mapping[str, Any] | None = None) -> Document:
        """Remove what is at ``path`` and return the answer, empty if there is none."""
        return self.request("DELETE", path, params=params)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Document:
        """Send one request; raises CliError with exit code 3 if refused and 4 if nothing answers."""
        response = self._send(method, path, params=params, body=body, headers=headers)
        return self._document(response) if response.content else {}

    def upload(self, path: str, data: bytes, *, params: Mapping[str, Any], media_type: str) -> Document:
        """Send bytes as they are and return the answer."""
        headers = {"Content-Type": media_type}
        return self._document(self._send("POST", path, params=params, content=data, headers=headers))

    def upload_file(self, path: str, file: Path, fields: Mapping[str, str]) -> Document:
        """Send a file as a form with other fields and return the answer."""
        try:
            with file.open("rb") as stream:
                response = self._http.post(path, data=dict(fields), files={"file": (file.name, stream)})
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.status_code >= 400:
            raise refused(response.status_code, response.content)
        return self._document(response)

    def send_file(self, path: str, file: Path) -> Document:
        """Put a file's bytes at ``path``, however many, and return the answer."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(file.stat().st_size)}
        with file.open("rb") as stream:
            return self._document(self._send("PUT", path, content=stream, headers=headers))

    def text(self, path: str, params: Mapping[str, Any] | None = None) -> str:
        """Return what is at ``path`` and no JSON: CSV, a picture as SVG."""
        return self._send("GET", path, params=params).text

    def content(self, path: str) -> bytes:
        """Return the bytes at ``path``."""
        return self._send("GET", path).content

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        content: bytes | BinaryIO | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            response = self._http.request(
                method,
                path,
                params=_without_none(params),
                json=body,
                content=content,
                headers=dict(headers or {}),
            )
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.status_code >= 400:
            raise refused(response.status_code, response.content)
        return response

    def items(
        self, path: str, params: Mapping[str, Any] | None = None, limit: int | None = None
    ) -> tuple[list[Document], str | None]:
        """Return up to ``limit`` items (None: all) and where to go on, None at the end."""
        found: list[Document] = []
        query = dict(params or {})
        while True:
            query["limit"] = PAGE if limit is None else max(1, min(PAGE, limit - len(found)))
            page = self.get(path, query)
            found += page["items"]
            query["after"] = page.get("next")
            if not query["after"] or (limit is not None and len(found) >= limit):
                return found, query["after"]

    def events(
        self, path: str, params: Mapping[str, Any] | None = None, last_event_id: str | None = None
    ) -> Iterator[tuple[str, Document]]:
        """Yield (id, document) of the server-sent events at ``path`` until the server ends the stream."""
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        try:
            with self._http.stream("GET", path, params=_without_none(params), headers=headers) as response:
                if response.status_code >= 400:
                    raise refused(response.status_code, response.read())
                yield from parse_events(response.iter_lines())
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _document(self, response: httpx.Response) -> Document:
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise CliError(
                f"{self.target.url} answered something that is no factory's answer; check the address "
                "with `penstock context show`",
                UNREACHABLE,
            )
        return cast("Document", document)

    def _unreachable(self, error: Exception) -> CliError:
        why = str(error) or type(error).__name__
        return CliError(
            f"cannot reach the factory at {self.target.url} ({why}); start it with `penstock up`, or choose "
            "another with `penstock context use` or PENSTOCK_URL",
            UNREACHABLE,
        )


def parse_events(lines: Iterable[str]) -> Iterator[tuple[str, Document]]:
    """Yield (id, document) of each event in the lines of a server-sent stream; comments are passed over.

    Format: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
    """
    event_id, data = "", list[str]()
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield event_id, json.loads("\n".join(data))
            data = []
        elif name == "id":
            event_id = value
        elif name == "data":
            data.append(value)


def refused(status: int, content: bytes) -> CliError:
    """Return the error of an answer that says no, with what to do next."""
    try:
        detail = json.loads(content)["error"]
        code, message, field = str(detail["code"]), str(detail["message"]), detail.get("field")
        request_id = detail.get("request_id")
    except (ValueError, KeyError, TypeError, AttributeError):
        return CliError(f"the address answered with HTTP status {status} and no explanation", REFUSED)
    sentence = message
    if field and field not in message:
        sentence = f"{field}: {message}"
    if status >= 500:
        sentence += f" [{code}, {request_id}]"
    else:
        sentence += f" [{code}]"
    return CliError(sentence, REFUSED, code=code)


def _without_none(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (params or {}).items() if value is not None}
