"""Offer the verb that serves models over HTTP."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biddable.cli_options import Model, TemplateName, require_models, say
from biddable.errors import ConfigError, how_to_install

if TYPE_CHECKING:
    from biddable.serving.house import House

_PACKAGES = ("fastapi", "prometheus_client", "uvicorn")


def serve(
    model: Model,
    base: Annotated[
        str | None, typer.Option(metavar="BASE", help="A second model, given bare text.")
    ] = None,
    template: TemplateName = None,
    host: Annotated[str, typer.Option(help="Address; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    api_key_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Holds the key of requests; or set BIDDABLE_API_KEY."),
    ] = None,
    max_concurrent: Annotated[int, typer.Option(min=1, help="Answers written at once.")] = 16,
    queue: Annotated[int, typer.Option(min=0, help="Answers that may wait beyond those.")] = 64,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer; none: what the model takes.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for a request.")] = 300.0,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds for running answers when told to end.")
    ] = 30.0,
    max_body: Annotated[int, typer.Option(min=1024, help="Bytes of a request.")] = 1 << 20,
    report: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Page at /report; none: report.html beside MODEL."),
    ] = None,
) -> None:
    """Serve a model over HTTP, as OpenAI's clients know it."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"serving needs packages ({', '.join(missing)}): {how_to_install('serve')}."
        )
    if base == model:
        raise typer.BadParameter("it is the model itself; name another.", param_hint="--base")
    require_models(*filter(None, (model, base)))
    from biddable.serving.house import ServerSettings
    from biddable.serving.launch import LOOPBACK, Serving, read_key
    from biddable.serving.launch import serve as run_server
    from biddable.serving.requests import EngineLimits
    from biddable.serving.server_guard import Guarding

    key = read_key(api_key_file)
    is_local = host in LOOPBACK
    if not is_local and key is None:
        say(f"anyone who reaches {host}:{port} may use it: there is no key (see --api-key-file)")
    guarding = Guarding(key, hosts=LOOPBACK if is_local else None, max_body=max_body)
    page = Path(report) if report else Path(model) / "report.html"
    serving = Serving(
        model,
        base=base,
        template=template,
        host=host,
        port=port,
        limits=EngineLimits(most_running=max_concurrent, most_waiting=queue),
        settings=ServerSettings(guarding, timeout, max_new_tokens, page),
        grace_s=grace,
    )
    run_server(serving, on_ready=_tell)


def _tell(url: str, house: House) -> None:
    """Say where the server is, and how to ask it."""
    names = list(house.models)
    key = "" if house.settings.guarding.api_key is None else ' -H "Authorization: Bearer $KEY"'
    body = f'{{"model": "{names[0]}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    typer.echo(f"{', '.join(names)} at {url}/v1, the playground at {url}/")
    typer.echo(f"  curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' \\")
    typer.echo(f"    -d '{body}'")
    sys.stdout.flush()
