"""An S3 server on this machine, in memory, that is talked to as Amazon's would be."""

import contextlib
import logging
import secrets
import urllib.request
from collections.abc import Callable, Iterator

import pytest

server = pytest.importorskip("moto.server", reason="moto's S3 server is not installed: pip install 'mlp-lm[dev]'")

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The server's `host:port`, while it runs; it has an empty bucket named `bucket`."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # It would log each request.
    started = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    started.start()
    endpoint = "{}:{}".format(*started.get_host_and_port())
    urllib.request.urlopen(urllib.request.Request(f"http://{endpoint}/bucket", method="PUT")).close()
    try:
        yield endpoint
    finally:
        started.stop()


@pytest.fixture(scope="module")
def address() -> Iterator[Callable[[], str]]:
    """A function whose every call gives the address of an empty place; the environment leads there."""
    with serving() as endpoint, pytest.MonkeyPatch.context() as environment:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://{endpoint}"}.items():
            environment.setenv(name, value)
        yield lambda: f"s3://bucket/place/{secrets.token_hex(4)}"  # Servers of one process share their buckets.
