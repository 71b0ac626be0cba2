"""A storage that speaks S3, on this machine, for tests: moto's, which can be told to misbehave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import fsspec
import pytest

SECRET = "not-to-be-told"


class Server:
    """Answers as S3; `refused.mp4` may not be read, reads of `cut.mp4` break off."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *words: Any) -> None:
                pass

        self._whole = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start: Callable) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path.endswith("refused.mp4") and method == "GET":
            start("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"]
        answer = self._whole(environ, start)
        if path.endswith("cut.mp4") and method == "GET":
            return [b"".join(answer)[:100]]
        return answer


@pytest.fixture(scope="module")
def storage() -> Iterator[Any]:
    """The file system of a storage with an empty bucket, `bucket`, which programs that are started find, too."""
    pytest.importorskip("moto", reason="needs moto, a stand-in for S3: pip install 'moto[s3]' flask flask-cors")
    pytest.importorskip("s3fs", reason="needs the extra remote")
    pytest.importorskip("flask_cors", reason="needs flask-cors, for moto's server")
    server = Server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", server.address)
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        fsspec.filesystem("s3").clear_instance_cache()
        fs = fsspec.filesystem("s3", use_listings_cache=False)
        fs.mkdir("bucket")
        yield fs
        fs.clear_instance_cache()
    server.stop()
