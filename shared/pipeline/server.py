"""The graph on a KFP API server."""

import contextlib
import warnings
from collections.abc import Iterator

from kfp import Client
from kfp.dsl.graph_component import GraphComponent
from kfp_server_api import ApiException
from urllib3.exceptions import HTTPError

from shared.errors import InputError
from shared.pipeline.recipes import Recipe


def submit(
    host: str, recipe: str, graph: GraphComponent, raw_data: str | None, config: Recipe
) -> None:
    """Create a run of a built graph on the server at `host`.

    Raises InputError where the server does not answer as one.
    """
    if raw_data is None:
        raise InputError(
            "--host needs --raw-data: a path or URL that the pods of the cluster can read."
        )
    with connect(host) as client:
        run = client.create_run_from_pipeline_func(
            graph,
            arguments={"raw_data": raw_data, **config},
            experiment_name=recipe,
            enable_caching=False,
        )
    print(f"submitted {run.run_id} to {host}")


@contextlib.contextmanager
def connect(host: str) -> Iterator[Client]:
    """A client of the server at `host`.

    Raises InputError where, also later, the server does not answer as one.
    """
    warnings.filterwarnings("ignore", module="kfp")
    try:
        yield Client(host=host)
    except (ApiException, HTTPError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"--host {host} does not answer as a KFP API server ({reason}): check the URL."
        ) from None
