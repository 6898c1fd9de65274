"""An S3 server on this machine, in memory, that pyarrow talks to as it would to Amazon's."""

import contextlib
import logging
import secrets
from collections.abc import Callable, Iterator

import pyarrow.fs
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
    pyarrow.fs.S3FileSystem(
        access_key="tests", secret_key="tests", endpoint_override=endpoint, scheme="http", region="us-east-1",
        allow_bucket_creation=True,
    ).create_dir("bucket")  # fmt: skip
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
